package cli

import (
	"fmt"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/anypb"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
)

// printing is how a command prints objects.
type printing struct {
	output, template          string
	showManaged, allowMissing bool
}

func (p *printing) register(f *pflag.FlagSet, usage string) {
	f.StringVarP(&p.output, "output", "o", "", usage)
	f.StringVar(&p.template, "template", "", "`template` or path for -o, or on its own a Go template")
	f.BoolVar(&p.allowMissing, "allow-missing-template-keys", true, "a template leaves out what an object lacks; with =false that is an error")
	f.BoolVar(&p.showManaged, "show-managed-fields", false, "keep metadata.managedFields in json and yaml")
}

// lines reports whether a line is printed rather than an object.
func (p printing) lines() bool { return p.output == "" && p.template == "" }

func (p printing) printer() (output.Printer, error) {
	return output.New(p.output, output.Options{Template: p.template, ShowManaged: p.showManaged, Strict: !p.allowMissing})
}

// result prints what became of an object: kubectl's line, or the object itself with -o.
func (s *session) result(t target, verb string, how printing, obj *anypb.Any) error {
	switch {
	case how.lines():
		fmt.Fprintf(s.out, "%s %s\n", t, verb)
		return nil
	case how.output == "name":
		fmt.Fprintln(s.out, t)
		return nil
	}
	p, err := how.printer()
	if err != nil {
		return err
	}
	u, err := api.Decode(t.info, obj)
	if err != nil {
		return err
	}
	return p.Print(s.out, u)
}
