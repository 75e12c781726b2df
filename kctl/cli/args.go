package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/manifest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// target is one object, or with an empty name a collection, that a command's arguments name.
type target struct {
	info            *apiv1.ResourceInfo
	namespace, name string
}

func (t target) String() string { return api.FullName(t.info, t.name) }

// targets understands kubectl's ways to name objects: "pods", "pods,svc", "pod a b", "pod/a svc/b".
func (s *session) targets(ctx context.Context, args []string) ([]target, error) {
	server, err := s.connect()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, errors.New("you must name a type of resource, e.g. `pods`, or pass a file with -f; see `kctl api-resources`")
	}
	if strings.Contains(args[0], "/") {
		return s.slashTargets(ctx, server, args)
	}
	var infos []*apiv1.ResourceInfo
	for word := range strings.SplitSeq(args[0], ",") {
		found, err := server.Resolve(ctx, word)
		if err != nil {
			return nil, err
		}
		infos = append(infos, found...)
	}
	var out []target
	for _, info := range infos {
		if len(args) == 1 {
			out = append(out, target{info: info, namespace: s.namespace})
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, fmt.Errorf("there is no need to name the type of resource in %q: it comes first, or before each name's slash, not both", name)
			}
			out = append(out, target{info: info, namespace: s.namespace, name: name})
		}
	}
	return out, nil
}

func (s *session) slashTargets(ctx context.Context, server *api.Server, args []string) ([]target, error) {
	var out []target
	for _, arg := range args {
		word, name, ok := strings.Cut(arg, "/")
		if !ok || word == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("arguments in resource/name form must have a single resource and name, not %q", arg)
		}
		infos, err := server.Resolve(ctx, word)
		if err != nil {
			return nil, err
		}
		out = append(out, target{info: infos[0], namespace: s.namespace, name: name})
	}
	return out, nil
}

// named is targets, but every target must be one object.
func (s *session) named(ctx context.Context, args []string) ([]target, error) {
	ts, err := s.targets(ctx, args)
	if err != nil {
		return nil, err
	}
	for _, t := range ts {
		if t.name == "" {
			return nil, fmt.Errorf("name the %s, e.g. `%s/NAME`", t.info.Singular, t.info.Singular)
		}
	}
	return ts, nil
}

// errNoneMatch says that a selector selects nothing.
var errNoneMatch = errors.New("no matching resources found")

// chosen is named, but a type without names means its objects that the selector selects, or with all, every one.
func (s *session) chosen(ctx context.Context, args []string, selector string, all bool) ([]target, error) {
	ts, err := s.targets(ctx, args)
	if err != nil {
		return nil, err
	}
	var out []target
	for _, t := range ts {
		switch {
		case t.name != "" && (selector != "" || all):
			return nil, errors.New("name objects, or pass -l or --all, not both")
		case t.name != "":
			out = append(out, t)
			continue
		case selector == "" && !all:
			return nil, fmt.Errorf("name the %s, e.g. `%s/NAME`, or pass -l or --all", t.info.Singular, t.info.Singular)
		}
		items, _, err := s.server.List(ctx, t.info, &apiv1.ListRequest{Ref: api.Ref(t.info, t.namespace, ""), LabelSelector: selector})
		if err != nil {
			return nil, err
		}
		for _, u := range items {
			out = append(out, target{t.info, u.GetNamespace(), u.GetName()})
		}
	}
	if len(out) == 0 {
		return nil, errNoneMatch
	}
	return out, nil
}

// fileFlags are -f and -R.
type fileFlags struct {
	files     []string
	recursive bool
}

// register adds the flags; verb is what becomes of the files' objects.
func (o *fileFlags) register(f *pflag.FlagSet, verb string) {
	f.StringSliceVarP(&o.files, "filename", "f", nil, "`file`, folder or - whose objects to "+verb)
	f.BoolVarP(&o.recursive, "recursive", "R", false, "with -f, go through folders below")
}

// fileOrNamed is the files' objects, or named without files.
func (s *session) fileOrNamed(ctx context.Context, f fileFlags, args []string) ([]target, error) {
	if len(f.files) > 0 {
		return s.fileTargets(ctx, f)
	}
	return s.named(ctx, args)
}

// fileTargets names the files' objects.
func (s *session) fileTargets(ctx context.Context, f fileFlags) ([]target, error) {
	docs, err := s.documents(ctx, f)
	if err != nil {
		return nil, err
	}
	targets := make([]target, len(docs))
	for i, d := range docs {
		targets[i] = d.target
	}
	return targets, nil
}

// documents reads the files' objects and finds each one's resource and namespace. As with manifest.Read, what cannot be used is
// in the error and the rest is returned beside it.
func (s *session) documents(ctx context.Context, f fileFlags) ([]document, error) {
	docs, err := manifest.Read(s.in, f.recursive, f.files...)
	if len(docs) == 0 {
		return nil, err
	}
	errs := []error{err}
	server, err := s.connect()
	if err != nil {
		return nil, err
	}
	if _, err := server.Infos(ctx); err != nil {
		return nil, err
	}
	var out []document
	for _, d := range docs {
		info, err := server.ForKind(ctx, d.Kind)
		if err != nil {
			errs = append(errs, fmt.Errorf("resource mapping not found for name: %q namespace: %q from %q: %w", d.Name, d.Namespace, d.Source, err))
			continue
		}
		ns := d.Namespace
		if ns == "" {
			ns = s.namespace
		}
		if s.namespaceGiven && info.Namespaced && ns != s.namespace {
			errs = append(errs, fmt.Errorf("%s %q in %q: the namespace from the object %q does not match the namespace %q; you must pass '--namespace=%s' to perform this operation", d.Kind.Kind, d.Name, d.Source, ns, s.namespace, ns))
			continue
		}
		out = append(out, document{Document: d, target: target{info: info, namespace: ns, name: d.Name}})
	}
	return out, errors.Join(errs...)
}

// each parts what errors.Join joined, through several joins.
func each(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, each(e)...)
	}
	return out
}

// document is an object of a file with where it belongs.
type document struct {
	manifest.Document
	target
}
