// Package logs reads container logs in CRI format.
//
// A line of such a log is "<time> <stream> <tag> <text>", the time in RFC 3339 with nanoseconds, the stream stdout or
// stderr, the tag "F" where the line is complete and "P" where it goes on in the next line of its stream. [Read] gives back
// the text as it was written.
//
//	err := logs.Read(ctx, path, logs.Options{TailLines: &n, Follow: true, Done: exited}, w, w)
package logs
