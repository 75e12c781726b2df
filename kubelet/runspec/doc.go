// Package runspec turns a container of a pod into what the kernel is told: environment, command line, identity, security,
// resources and mounts, as an OCI runtime specification.
//
// Everything here is a function of its arguments. What must be looked up (ConfigMaps, Secrets, Services, the image, users
// in the image's passwd file) is looked up by the caller and given in.
//
//	env, err := runspec.Env(runspec.EnvInput{Pod: p, Container: c, Sources: sources, …})
//	args, err := runspec.Args(c, image.Config, env)
//	spec, err := runspec.Build(runspec.Input{Pod: p, Container: c, Args: args, Env: env, User: user, Rootfs: rootfs, …})
//
// Errors are [ErrConfig] where the pod's author can correct them: the container then waits with the reason
// CreateContainerConfigError.
package runspec
