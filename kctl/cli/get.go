package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// getOptions are the flags of get.
type getOptions struct {
	fileFlags
	printing
	labels, fields, sortBy, at          string
	raw, subresource                    string
	all, watch, watchOnly, ignoreAbsent bool
	showKind                            bool
	table                               output.TableOptions
}

func (s *session) getCommand() *cobra.Command {
	var o getOptions
	c := &cobra.Command{
		Use:   "get (TYPE[,TYPE…] [NAME…] | TYPE/NAME… | -f FILE)",
		Short: "Print objects",
		Example: `  kctl get pods
  kctl get deploy/web -o yaml
  kctl get pods -A -l app=web -w
  kctl get pods --at 4711
  kctl get --raw /metrics`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.raw != "" {
				return s.getRaw(cmd.Context(), o, args)
			}
			return s.get(cmd.Context(), o, args)
		},
	}
	f := c.Flags()
	o.printing.register(f, output.Formats)
	f.StringVarP(&o.labels, "selector", "l", "", "label `selector`, e.g. app=web,tier!=db")
	f.StringVar(&o.fields, "field-selector", "", "field `selector`, e.g. spec.nodeName=host-1")
	f.StringVar(&o.sortBy, "sort-by", "", "JSONPath `expression` to sort by, e.g. .metadata.creationTimestamp")
	f.StringVar(&o.at, "at", "", "show the objects as they were at this `revision` (a resourceVersion)")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "in every namespace")
	f.BoolVarP(&o.watch, "watch", "w", false, "go on printing changes")
	f.BoolVar(&o.watchOnly, "watch-only", false, "print changes only")
	f.BoolVar(&o.ignoreAbsent, "ignore-not-found", false, "an object that does not exist is no error")
	f.BoolVar(&o.showKind, "show-kind", false, "write the type of the resource before each name")
	f.StringVar(&o.subresource, "subresource", "", "get this `subresource` of the named objects, e.g. status or scale")
	f.Int("chunk-size", 500, "accepted for kubectl's sake: lists come as a stream")
	f.Bool("server-print", true, "accepted for kubectl's sake: columns are always the server's")
	f.BoolVar(&o.table.NoHeaders, "no-headers", false, "leave the headers out")
	f.BoolVar(&o.table.ShowLabels, "show-labels", false, "add all labels as the last column")
	f.StringSliceVarP(&o.table.LabelColumns, "label-columns", "L", nil, "add these labels as columns")
	f.StringSliceVarP(&o.files, "filename", "f", nil, "`file`, folder or - whose objects to get")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "with -f, go through folders below")
	f.StringVar(&o.raw, "raw", "", "print what the server answers to a GET of this `path`, e.g. /readyz?verbose")
	return c
}

func (s *session) get(ctx context.Context, o getOptions, args []string) error {
	targets, err := s.getTargets(ctx, o, args)
	if err != nil {
		return err
	}
	if o.all {
		for i := range targets {
			if targets[i].name != "" {
				return errors.New("a resource cannot be retrieved by name across all namespaces; leave out -A or the name")
			}
			targets[i].namespace = ""
		}
	}
	if o.subresource != "" && slices.ContainsFunc(targets, func(t target) bool { return t.name == "" }) {
		return errors.New("subresource can not be used when bulk resources are specified")
	}
	o.table.Wide = o.output == "wide"
	o.table.WithNamespace = o.all
	switch {
	case o.watch || o.watchOnly:
		if len(targets) > 1 {
			return errors.New("you may only specify a single resource type or object with --watch")
		}
		return s.watch(ctx, o, targets[0])
	case o.lines() || o.output == "wide":
		if o.sortBy == "" {
			return s.getTables(ctx, o, targets)
		}
		return s.getSorted(ctx, o, targets)
	}
	items, err := s.fetch(ctx, o, targets)
	if err != nil {
		return err
	}
	return s.printObjects(o, targets, items)
}

func (s *session) getTargets(ctx context.Context, o getOptions, args []string) ([]target, error) {
	if len(o.files) == 0 {
		return s.targets(ctx, args)
	}
	return s.fileTargets(ctx, o.fileFlags)
}

// getTables prints the server's own columns.
func (s *session) getTables(ctx context.Context, o getOptions, targets []target) error {
	groups := groupTargets(targets)
	o.table.WithKind = len(groups) > 1 || o.showKind
	printed := 0
	var errs []error
	for _, g := range groups {
		var buf strings.Builder
		t := output.NewTable(&buf, strings.TrimSuffix(api.FullName(g[0].info, ""), "/"), withNamespace(o.table, g[0]))
		n, err := s.tableGroup(ctx, o, g, t)
		errs = append(errs, err)
		if n == 0 {
			continue
		}
		if printed > 0 {
			fmt.Fprintln(s.out)
		}
		io.WriteString(s.out, buf.String())
		printed += n
	}
	err := errors.Join(errs...)
	if printed == 0 && err == nil && !o.ignoreAbsent {
		s.noneFound(targets)
	}
	return err
}

// withNamespace drops the namespace column for cluster-scoped kinds.
func withNamespace(o output.TableOptions, t target) output.TableOptions {
	o.WithNamespace = o.WithNamespace && t.info.Namespaced
	return o
}

// tableGroup prints the targets of one resource into one table and returns the number of rows.
func (s *session) tableGroup(ctx context.Context, o getOptions, group []target, t *output.Table) (rows int, err error) {
	parts := &apiv1.Table{}
	var errs []error
	for _, tg := range group {
		err := s.tableRows(ctx, o, tg, func(part *apiv1.Table) error {
			if len(part.GetColumns()) > 0 {
				parts.Columns = part.Columns
			}
			parts.Rows = append(parts.Rows, part.GetRows()...)
			return nil
		})
		errs = append(errs, err)
	}
	return len(parts.Rows), errors.Join(append(errs, t.Print(parts))...)
}

func (s *session) tableRows(ctx context.Context, o getOptions, t target, fn func(*apiv1.Table) error) error {
	if t.name == "" {
		req := o.listRequest(t)
		req.View = apiv1.View_VIEW_TABLE
		return s.server.ListRaw(ctx, req, func(r *apiv1.ListResponse) error { return fn(r.GetTable()) })
	}
	resp, err := s.server.GetRaw(ctx, o.getRequest(t, apiv1.View_VIEW_TABLE))
	if ignoreAbsent(err, o.ignoreAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	return fn(resp.GetTable())
}

func (o getOptions) listRequest(t target) *apiv1.ListRequest {
	req := &apiv1.ListRequest{Ref: api.Ref(t.info, t.namespace, ""), LabelSelector: o.labels, FieldSelector: o.fields}
	if o.at != "" {
		req.ResourceVersion, req.VersionMatch = o.at, apiv1.VersionMatch_VERSION_MATCH_EXACT
	}
	return req
}

func (o getOptions) getRequest(t target, view apiv1.View) *apiv1.GetRequest {
	req := &apiv1.GetRequest{Ref: api.Ref(t.info, t.namespace, t.name), View: view}
	req.Ref.Subresource = o.subresource
	if o.at != "" {
		req.ResourceVersion, req.VersionMatch = o.at, apiv1.VersionMatch_VERSION_MATCH_EXACT
	}
	return req
}

// fetch reads whole objects.
func (s *session) fetch(ctx context.Context, o getOptions, targets []target) ([]*unstructured.Unstructured, error) {
	var items []*unstructured.Unstructured
	for _, t := range targets {
		if t.name == "" {
			found, _, err := s.server.List(ctx, t.info, o.listRequest(t))
			if err != nil {
				return nil, err
			}
			items = append(items, found...)
			continue
		}
		resp, err := s.server.GetRaw(ctx, o.getRequest(t, apiv1.View_VIEW_FULL))
		if ignoreAbsent(err, o.ignoreAbsent) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info := t.info
		if o.subresource == "scale" { // the one that is of another kind than its object
			info = &apiv1.ResourceInfo{Group: "autoscaling", Version: "v1", Kind: "Scale"}
		}
		u, err := api.Decode(info, resp.Object)
		if err != nil {
			return nil, err
		}
		items = append(items, u)
	}
	return items, sortItems(items, o.sortBy)
}

func (s *session) printObjects(o getOptions, targets []target, items []*unstructured.Unstructured) error {
	if o.output == "name" {
		for _, u := range items {
			info, err := s.server.ForKind(context.Background(), u.GroupVersionKind())
			if err != nil {
				return err
			}
			fmt.Fprintln(s.out, api.FullName(info, u.GetName()))
		}
		return nil
	}
	p, err := o.printer()
	if err != nil {
		return err
	}
	if len(targets) == 1 && targets[0].name != "" {
		if len(items) == 0 {
			return nil
		}
		return p.Print(s.out, items[0])
	}
	return p.Print(s.out, output.List(items))
}

// getSorted prints tables in the order that --sort-by asks for: rows are fetched one group at a time and put in the
// objects' order.
func (s *session) getSorted(ctx context.Context, o getOptions, targets []target) error {
	for _, g := range groupTargets(targets) {
		items, err := s.fetch(ctx, o, g)
		if err != nil {
			return err
		}
		order := map[string]int{}
		for i, u := range items {
			order[string(u.GetUID())] = i
		}
		parts := &apiv1.Table{}
		for _, t := range g {
			err := s.tableRows(ctx, o, t, func(part *apiv1.Table) error {
				if len(part.GetColumns()) > 0 {
					parts.Columns = part.Columns
				}
				parts.Rows = append(parts.Rows, part.GetRows()...)
				return nil
			})
			if err != nil {
				return err
			}
		}
		sort.SliceStable(parts.Rows, func(i, j int) bool { return order[parts.Rows[i].Uid] < order[parts.Rows[j].Uid] })
		if len(parts.Rows) == 0 {
			s.noneFound(g)
		}
		if err := output.NewTable(s.out, g[0].info.Singular, withNamespace(o.table, g[0])).Print(parts); err != nil {
			return err
		}
	}
	return nil
}

// sortItems sorts by a JSONPath expression: numbers as numbers, everything else as text.
func sortItems(items []*unstructured.Unstructured, path string) error {
	if path == "" {
		return nil
	}
	p := strings.Trim(path, "{}")
	if !strings.HasPrefix(p, ".") {
		p = "." + p
	}
	j := jsonpath.New("sort").AllowMissingKeys(true)
	if err := j.Parse("{" + p + "}"); err != nil {
		return fmt.Errorf("--sort-by: %w", err)
	}
	keys := map[*unstructured.Unstructured]any{}
	for _, u := range items {
		found, err := j.FindResults(u.Object)
		if err != nil {
			return fmt.Errorf("--sort-by: %w", err)
		}
		if len(found) > 0 && len(found[0]) > 0 {
			keys[u] = found[0][0].Interface()
		}
	}
	slices.SortStableFunc(items, func(a, b *unstructured.Unstructured) int { return compare(keys[a], keys[b]) })
	return nil
}

func compare(a, b any) int {
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	return strings.Compare(text(a), text(b))
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// watch prints the selected objects and then every change until ctx ends. It resumes where it was if the connection breaks.
func (s *session) watch(ctx context.Context, o getOptions, t target) error {
	print, err := s.eventPrinter(o, t)
	if err != nil {
		return err
	}
	req := &apiv1.WatchRequest{Ref: api.Ref(t.info, t.namespace, ""), LabelSelector: o.labels, FieldSelector: o.fields, SendInitialEvents: true, AllowBookmarks: true}
	if t.name != "" {
		req.FieldSelector = strings.TrimPrefix(o.fields+",metadata.name="+t.name, ",")
	}
	if o.lines() || o.output == "wide" {
		req.View = apiv1.View_VIEW_TABLE
	}
	initial := true
	for {
		// What is there already is printed at once, so that its columns line up, and once, though the connection break meanwhile.
		var first, events []*apiv1.Event
		err := s.server.Watch(ctx, req, func(r *apiv1.WatchResponse) error {
			events = events[:0]
			for _, e := range r.Events {
				switch {
				case e.Type == apiv1.Event_TYPE_BOOKMARK && initial && e.InitialEventsEnd:
					initial = false
					if !o.watchOnly {
						events = append(first, events...)
					}
				case e.Type == apiv1.Event_TYPE_BOOKMARK:
				case initial:
					first = append(first, e)
				default:
					events = append(events, e)
				}
			}
			if err := print(events); err != nil {
				return err
			}
			if !initial && r.Revision > 0 {
				req.ResourceVersion, req.SendInitialEvents = fmt.Sprint(r.Revision), false
			}
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if !client.IsUnavailable(err) && err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return nil
		}
	}
}

// eventPrinter returns what prints events in the format that the options ask for.
func (s *session) eventPrinter(o getOptions, t target) (func([]*apiv1.Event) error, error) {
	if o.lines() || o.output == "wide" {
		table := output.NewTable(s.out, t.info.Singular, withNamespace(o.table, t))
		return func(events []*apiv1.Event) error { return table.Print(rowsOf(events)) }, nil
	}
	if o.output == "name" {
		return s.eachEvent(t, func(u *unstructured.Unstructured) error {
			_, err := fmt.Fprintln(s.out, api.FullName(t.info, u.GetName()))
			return err
		}), nil
	}
	p, err := o.printer()
	if err != nil {
		return nil, err
	}
	return s.eachEvent(t, func(u *unstructured.Unstructured) error {
		if strings.HasPrefix(o.output, "yaml") {
			fmt.Fprintln(s.out, "---")
		}
		return p.Print(s.out, u)
	}), nil
}

func (s *session) eachEvent(t target, fn func(*unstructured.Unstructured) error) func([]*apiv1.Event) error {
	return func(events []*apiv1.Event) error {
		for _, e := range events {
			u, err := api.Decode(t.info, e.Object)
			if err == nil {
				err = fn(u)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// rowsOf joins the tables of events, the first of which carries the columns.
func rowsOf(events []*apiv1.Event) *apiv1.Table {
	all := &apiv1.Table{}
	for _, e := range events {
		if all.Columns == nil {
			all.Columns = e.GetTable().GetColumns()
		}
		all.Rows = append(all.Rows, e.GetTable().GetRows()...)
	}
	return all
}

// groupTargets puts targets of one resource together, in the order in which the resources came.
func groupTargets(targets []target) [][]target {
	var groups [][]target
	index := map[*apiv1.ResourceInfo]int{}
	for _, t := range targets {
		i, ok := index[t.info]
		if !ok {
			i = len(groups)
			index[t.info] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], t)
	}
	return groups
}

// noneFound says on standard error that nothing was there, as kubectl does.
func (s *session) noneFound(targets []target) {
	for _, t := range targets {
		if t.name != "" {
			return
		}
	}
	if t := targets[0]; t.info.Namespaced && t.namespace != "" {
		fmt.Fprintf(s.err, "No resources found in %s namespace.\n", t.namespace)
		return
	}
	fmt.Fprintln(s.err, "No resources found")
}
