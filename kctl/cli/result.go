package cli

import (
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
)

// result prints what became of an object: kubectl's line, or the object itself with -o.
func (s *session) result(t target, verb, format string, obj *anypb.Any) error {
	switch format {
	case "":
		fmt.Fprintf(s.out, "%s %s\n", t, verb)
		return nil
	case "name":
		fmt.Fprintln(s.out, t)
		return nil
	}
	p, err := output.New(format, false)
	if err != nil {
		return err
	}
	u, err := api.Decode(t.info, obj)
	if err != nil {
		return err
	}
	return p.Print(s.out, u)
}
