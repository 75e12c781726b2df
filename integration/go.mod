module bareboat.dev/integration

go 1.26.0

require (
	bareboat.dev/apiserver v0.0.0
	bareboat.dev/client v0.0.0
	bareboat.dev/controllermanager v0.0.0
	bareboat.dev/daemon v0.0.0
	bareboat.dev/dns v0.0.0
	bareboat.dev/kctl v0.0.0
	bareboat.dev/kubelet v0.0.0
	bareboat.dev/proto v0.0.0
	bareboat.dev/proxy v0.0.0
	bareboat.dev/scheduler v0.0.0
	github.com/bufbuild/protocompile v0.14.1
	github.com/google/go-containerregistry v0.22.1
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2
	google.golang.org/protobuf v1.36.12
	sigs.k8s.io/yaml v1.6.0
)

replace bareboat.dev/proto => ../proto

replace bareboat.dev/client => ../client

replace bareboat.dev/daemon => ../daemon

replace bareboat.dev/apiserver => ../apiserver

replace bareboat.dev/scheduler => ../scheduler

replace bareboat.dev/controllermanager => ../controllermanager

replace bareboat.dev/kubelet => ../kubelet

replace bareboat.dev/proxy => ../proxy

replace bareboat.dev/dns => ../dns

replace bareboat.dev/kctl => ../kctl

tool (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc
	google.golang.org/protobuf/cmd/protoc-gen-go
)
