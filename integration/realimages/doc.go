// Package realimages makes images of programs that people run, from Debian's packages with all that they depend on: a Python server, nginx,
// Redis, PostgreSQL, MariaDB and a JVM. Its test runs them on a one-machine cluster with the security contexts that clusters require of
// such: users other than root, read-only root file systems, no capabilities, filtered system calls.
//
// The test downloads some 300 MB, so it is behind the build tag "realimages": make test-images.
package realimages
