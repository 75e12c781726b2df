package runspec

// nativeArm says which names system calls are filtered under.
const nativeArm = true
