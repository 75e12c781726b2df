package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

// settings are the flags that every daemon has.
type settings struct {
	config    string
	validate  bool
	version   bool
	logLevel  string
	logFormat string

	usage string
	level slog.Level
}

// settings parses args, reads the file that they name, and validates. Flags win over the file because they are parsed once
// more after it.
func (spec Spec) settings(args []string) (*settings, error) {
	set, fs := spec.flagSet()
	if err := parse(fs, args); err != nil {
		set.usage = fs.FlagUsages()
		return set, err
	}
	if set.config != "" {
		path := set.config
		set, fs = spec.flagSet()
		if err := loadConfig(path, spec.Name, spec.Config); err != nil {
			return set, err
		}
		if err := parse(fs, args); err != nil {
			return set, err
		}
	}
	if set.version {
		return set, nil
	}
	if err := set.check(); err != nil {
		return set, err
	}
	if spec.Validate != nil {
		return set, spec.Validate()
	}
	return set, nil
}

// flagSet registers all flags anew.
func (spec Spec) flagSet() (*settings, *pflag.FlagSet) {
	set := &settings{}
	fs := pflag.NewFlagSet(spec.Name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.SortFlags = true
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	if spec.Config != nil {
		fs.StringVar(&set.config, "config", "", "YAML file with the same settings as the flags; flags win")
	}
	fs.BoolVar(&set.validate, "validate", false, "check flags and configuration file, then exit")
	fs.BoolVar(&set.version, "version", false, "print the version, then exit")
	fs.StringVar(&set.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	fs.StringVar(&set.logFormat, "log-format", "text", "text or json")
	if spec.Flags != nil {
		spec.Flags(fs)
	}
	return set, fs
}

// parse adds to the flag package's errors what to do about them.
func parse(fs *pflag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; --help lists the flags", err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: settings are given as flags; --help lists them", fs.Arg(0))
	}
	return nil
}

func (s *settings) check() error {
	if err := s.level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", s.logLevel)
	}
	if s.logFormat != "text" && s.logFormat != "json" {
		return fmt.Errorf("--log-format %q: want text or json", s.logFormat)
	}
	return nil
}

func (s *settings) logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: s.level}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
