package main

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// libraryLog sends what the streaming libraries log into the daemon's log, as details: what they call an unhandled error is a
// client that went away, or a port on which nothing listens, which its user has been told.
func libraryLog(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(lowered{log.Handler()}).With("from", "library"))
}

// lowered is a handler that takes every record for a detail.
type lowered struct{ slog.Handler }

// Enabled implements slog.Handler.
func (l lowered) Enabled(ctx context.Context, _ slog.Level) bool {
	return l.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (l lowered) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l lowered) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lowered{l.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (l lowered) WithGroup(name string) slog.Handler { return lowered{l.Handler.WithGroup(name)} }
