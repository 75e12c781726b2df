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
	github.com/mattn/go-sqlite3 v1.14.53
	go.etcd.io/etcd/client/v3 v3.7.3
	golang.org/x/sys v0.49.0
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2
	google.golang.org/protobuf v1.36.12
	k8s.io/api v0.37.2
	k8s.io/apimachinery v0.37.2
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
