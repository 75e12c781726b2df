//go:build !arm64

package runspec

// nativeArm says which names system calls are filtered under.
const nativeArm = false
