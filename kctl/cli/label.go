package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// labelOptions are the flags of label and annotate.
type labelOptions struct {
	fileFlags
	writing
	overwrite, all, list bool
	selector, fields     string
	version              string
	everywhere           bool
	// field is what changes: labels or annotations.
	field string
}

// of are the object's own labels or annotations.
func (o labelOptions) of(u *unstructured.Unstructured) map[string]string {
	if o.field == "annotations" {
		return u.GetAnnotations()
	}
	return u.GetLabels()
}

// labelCommand is `label` and `annotate`: KEY=VALUE sets, KEY- removes.
func (s *session) labelCommand(verb string) *cobra.Command {
	o := labelOptions{field: "labels"}
	if verb == "annotate" {
		o.field = "annotations"
	}
	c := &cobra.Command{
		Use:   verb + " TYPE/NAME KEY=VALUE… KEY-…",
		Short: "Set, remove or list " + o.field + " of objects",
		RunE: func(cmd *cobra.Command, args []string) error {
			names, changes := splitChanges(args)
			if len(changes) == 0 && !o.list {
				return errors.New("at least one change is required: KEY=VALUE sets, KEY- removes, --list shows what there is")
			}
			targets, err := s.labelled(cmd.Context(), o, names)
			if errors.Is(err, errNoneMatch) { // as kubectl has it: there is nothing to do
				return nil
			}
			if err != nil {
				return err
			}
			if o.version != "" && len(targets) > 1 {
				return errors.New("--resource-version may only be used with a single resource")
			}
			for _, t := range targets {
				if err := s.changeMap(cmd.Context(), t, o, changes, len(targets) > 1); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&o.overwrite, "overwrite", false, "change what is set already")
	f.BoolVar(&o.list, "list", false, "print the "+o.field+" as they are, or have become")
	f.BoolVar(&o.all, "all", false, "all objects of the type")
	f.StringVarP(&o.selector, "selector", "l", "", "label `selector`")
	f.StringVar(&o.fields, "field-selector", "", "field `selector`, e.g. status.phase=Running")
	f.BoolVarP(&o.everywhere, "all-namespaces", "A", false, "in every namespace")
	f.StringVar(&o.version, "resource-version", "", "change the object only if it is still at this `version`")
	o.fileFlags.register(f, "change")
	o.writing.register(f)
	return c
}

// labelled are the objects that the arguments and flags name.
func (s *session) labelled(ctx context.Context, o labelOptions, names []string) ([]target, error) {
	if o.fields == "" && !o.everywhere {
		return s.fileOrChosen(ctx, o.fileFlags, names, o.selector, o.all)
	}
	get := getOptions{labels: o.selector, fields: o.fields}
	kinds, err := s.targets(ctx, names)
	if err != nil {
		return nil, err
	}
	var out []target
	for _, t := range kinds {
		switch {
		case t.name != "":
			return nil, errors.New("name objects, or pass --field-selector or --all-namespaces, not both")
		case o.everywhere && o.selector == "" && o.fields == "" && !o.all:
			return nil, errors.New("pass -l, --field-selector or --all as well: which objects of all namespaces?")
		case o.everywhere:
			t.namespace = ""
		}
		items, err := s.fetch(ctx, get, []target{t})
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

// splitChanges parts the object names from the changes: the first argument with "=" or a trailing "-" begins the changes.
func splitChanges(args []string) (names, changes []string) {
	for i, a := range args {
		if strings.Contains(a, "=") || strings.HasSuffix(a, "-") {
			return args[:i], args[i:]
		}
	}
	return args, nil
}

// changeMap changes, and with --list prints, an object's labels or annotations; heading says whose they are.
func (s *session) changeMap(ctx context.Context, t target, o labelOptions, changes []string, heading bool) error {
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return err
	}
	old := o.of(u)
	set, become, err := changedMap(old, changes, o.overwrite)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if key, removes := strings.CutSuffix(c, "-"); removes && !strings.Contains(c, "=") {
			if _, has := old[key]; !has {
				fmt.Fprintf(s.out, "%s %q not found.\n", strings.TrimSuffix(o.field, "s"), key)
			}
		}
	}
	if len(changes) > 0 {
		obj, err := s.mergePatch(ctx, t, map[string]any{"metadata": map[string]any{o.field: set, "resourceVersion": cmp.Or(o.version, u.GetResourceVersion())}}, o.writing)
		if err != nil {
			return err
		}
		if !o.list {
			return s.done(t, o.word(old, become), o.writing, obj)
		}
	}
	indent := ""
	if heading {
		indent = " "
		fmt.Fprintf(s.err, "Listing %s for %s.%s/%s:\n", o.field, t.info.Kind, t.info.Group, t.name)
	}
	for _, key := range slices.Sorted(maps.Keys(become)) {
		fmt.Fprintf(s.out, "%s%s=%s\n", indent, key, become[key])
	}
	return nil
}

// word says what was done, as kubectl does.
func (o labelOptions) word(old, become map[string]string) string {
	switch {
	case o.field == "annotations":
		return "annotated"
	case maps.Equal(old, become):
		return "not labeled"
	case !o.overwrite && len(become) < len(old):
		return "unlabeled"
	}
	return "labeled"
}

// changedMap applies changes to a map: KEY=VALUE sets, KEY- removes. It returns them as a merge patch and what the map becomes.
func changedMap(old map[string]string, changes []string, overwrite bool) (patch map[string]any, become map[string]string, err error) {
	patch, become = map[string]any{}, map[string]string{}
	maps.Copy(become, old)
	for _, c := range changes {
		key, value, sets := strings.Cut(c, "=")
		if !sets {
			key = strings.TrimSuffix(c, "-")
			patch[key] = nil
			delete(become, key)
			continue
		}
		if was, has := old[key]; has && was != value && !overwrite {
			return nil, nil, fmt.Errorf("'%s' already has a value (%s), and --overwrite is false", key, was)
		}
		patch[key], become[key] = value, value
	}
	return patch, become, nil
}
