module bareboat.dev/controllermanager

go 1.26.0

require (
	bareboat.dev/client v0.0.0
	bareboat.dev/daemon v0.0.0
	bareboat.dev/proto v0.0.0
)

replace bareboat.dev/proto => ../proto

replace bareboat.dev/client => ../client

replace bareboat.dev/daemon => ../daemon
