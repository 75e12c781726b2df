package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"
)

// Spec describes a daemon.
type Spec struct {
	// Name as in its unit and log, "scheduler"; the configuration's kind is it in upper camel case plus "Configuration".
	Name string
	// Description is one line for --help.
	Description string
	// Version of the build; empty takes it from the binary's build information.
	Version string
	// Config points to the versioned configuration, with its defaults filled in; nil if there is none. Its JSON tags name
	// the file's fields; apiVersion and kind are checked here and need no field.
	Config any
	// Flags registers flags, most of them pointing into Config. It is called again after the file has been named, so it
	// must do nothing else.
	Flags func(*pflag.FlagSet)
	// Validate checks the settings once flags and file are applied. Its error should name the flag or field and say what to
	// do.
	Validate func() error
	// Run is the daemon; it returns when ctx ends and its work has stopped.
	Run func(ctx context.Context, env *Env) error
}

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// Main runs the daemon and ends the process.
func Main(spec Spec) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		cancel()
		<-stop
		os.Exit(exitFailure)
	}()
	os.Exit(Execute(ctx, spec, os.Args[1:], os.Stdout, os.Stderr))
}

// Execute is Main without the process: it returns the exit code, and ends when ctx does.
func Execute(ctx context.Context, spec Spec, args []string, stdout, stderr io.Writer) int {
	set, err := spec.settings(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(stdout, "%s: %s\n\nUsage:\n  %s [flags]\n\nFlags:\n%s", spec.Name, spec.Description, spec.Name, set.usage)
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", spec.Name, err)
		return exitUsage
	}
	switch {
	case set.version:
		fmt.Fprintln(stdout, spec.version())
		return exitOK
	case set.validate:
		fmt.Fprintf(stdout, "%s: the configuration is valid\n", spec.Name)
		return exitOK
	}
	if err := spec.run(ctx, set, stderr); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", spec.Name, err)
		return exitFailure
	}
	return exitOK
}

func (spec Spec) run(ctx context.Context, set *settings, stderr io.Writer) error {
	env := newEnv(spec, set.logger(stderr))
	env.afterStart = forgetStart
	env.Log.Info("starting", "daemon", spec.Name, "version", spec.version())
	watchdog := env.notifier.startWatchdog(ctx, env.Health)
	err := spec.Run(ctx, env)
	env.notifier.send("STOPPING=1")
	watchdog()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		env.Log.Info("stopped", "daemon", spec.Name)
		return nil
	}
	return err
}

// version describes the build in one line.
func (spec Spec) version() string {
	v := spec.Version
	if v == "" {
		v = "devel"
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
			v = info.Main.Version
		}
	}
	return fmt.Sprintf("bareboat %s %s (%s %s/%s)", spec.Name, v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
