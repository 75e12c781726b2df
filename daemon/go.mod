module bareboat.dev/daemon

go 1.26.0

require (
	bareboat.dev/proto v0.0.0
	github.com/prometheus/client_golang v1.25.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

replace bareboat.dev/proto => ../proto
