// Package server is podshim: the process that holds one pod. See package shim for the protocol and the promises.
//
// It is the only package that links libcontainer. Its parts:
//
//   - [Server] keeps the pod: it answers requests, each on its own connection and goroutine, and publishes exits.
//   - forker runs what forks on a thread that never ends, because the kernel's parent-death signal is about threads.
//   - reaper waits for children: containers, exec'd processes, and orphans (podshim is a subreaper).
//   - container is one container from create to delete; record keeps its status on disk.
//   - logWriter turns output into CRI log lines; fanout also gives it to attached clients.
//
// Memory is the scarce thing here, since there is one such process per pod: buffers are taken only while there is
// something to read, nothing runs on a timer except to give memory back after work, and imports are few.
package server
