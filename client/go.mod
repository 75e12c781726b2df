module bareboat.dev/client

go 1.26.0

require (
	bareboat.dev/proto v0.0.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
	k8s.io/api v0.37.2
	k8s.io/apimachinery v0.37.2
)

replace bareboat.dev/proto => ../proto
