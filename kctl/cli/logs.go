package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// logOptions are the flags of logs.
type logOptions struct {
	container, labels, sinceTime                                string
	follow, previous, timestamps, allContainers, prefix, ignore bool
	tail, limit                                                 int64
	since                                                       time.Duration
}

func (s *session) logsCommand() *cobra.Command {
	var o logOptions
	c := &cobra.Command{
		Use:   "logs (POD | TYPE/NAME | /REGEX/ | -l SELECTOR)",
		Short: "Print what containers wrote",
		Long: `Print what containers wrote. A workload, a selector or a regular expression between slashes means all of their pods; with -f
pods that appear later are followed, too.`,
		Example: `  kctl logs web-5d4f8c7b9-x2x7p -f
  kctl logs deploy/web --tail=20
  kctl logs -f -l app=web --prefix
  kctl logs -f /^web-.*/`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return s.logs(cmd.Context(), o, args) },
	}
	f := c.Flags()
	f.StringVarP(&o.container, "container", "c", "", "`name` of the container")
	f.BoolVar(&o.allContainers, "all-containers", false, "every container of the pods")
	f.StringVarP(&o.labels, "selector", "l", "", "the pods that this label `selector` selects")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on as more is written")
	f.BoolVarP(&o.previous, "previous", "p", false, "the container's previous instance")
	f.BoolVar(&o.timestamps, "timestamps", false, "each line with its time")
	f.BoolVar(&o.prefix, "prefix", false, "each line with its pod and container")
	f.BoolVar(&o.ignore, "ignore-errors", false, "go on with the other pods if one fails")
	f.Int64Var(&o.tail, "tail", -1, "only this many lines from the end; -1 is all")
	f.Int64Var(&o.limit, "limit-bytes", 0, "stop after this many bytes; 0 is all")
	f.DurationVar(&o.since, "since", 0, "only what is newer than this, e.g. 5m")
	f.StringVar(&o.sinceTime, "since-time", "", "only what is newer than this RFC 3339 `time`")
	return c
}

// request is what a container's log is asked for with.
func (o logOptions) request(now time.Time) (*nodev1.LogsRequest, error) {
	r := &nodev1.LogsRequest{Follow: o.follow, Previous: o.previous, Timestamps: o.timestamps}
	switch {
	case o.since != 0 && o.sinceTime != "":
		return nil, errors.New("at most one of --since and --since-time may be used")
	case o.since < 0:
		return nil, fmt.Errorf("--since: %v is not greater than 0", o.since)
	case o.since > 0:
		r.Since = timestamppb.New(now.Add(-o.since))
	case o.sinceTime != "":
		t, err := time.Parse(time.RFC3339, o.sinceTime)
		if err != nil {
			return nil, fmt.Errorf("--since-time: %w", err)
		}
		r.Since = timestamppb.New(t)
	}
	if o.tail >= 0 {
		r.TailLines = wrapperspb.Int64(o.tail)
	}
	if o.limit > 0 {
		r.LimitBytes = wrapperspb.Int64(o.limit)
	}
	return r, nil
}

// podSelection is which pods a command is about: one by name, or those that match.
type podSelection struct {
	namespace, name, labels string
	match                   *regexp.Regexp
}

func (p podSelection) matches(pod *corev1.Pod) bool {
	return p.match == nil || p.match.MatchString(pod.Name)
}

// selectPods understands POD, pod/POD, TYPE/NAME (by the workload's selector), /REGEX/ and a label selector.
func (s *session) selectPods(ctx context.Context, arg, labels string) (podSelection, error) {
	if _, err := s.connect(); err != nil {
		return podSelection{}, err
	}
	sel := podSelection{namespace: s.namespace, labels: labels}
	switch {
	case arg == "" && labels == "":
		return sel, errors.New("expected a POD, TYPE/NAME, /REGEX/ or -l SELECTOR")
	case arg == "":
		return sel, nil
	case labels != "":
		return sel, errors.New("only a selector (-l) or a name is allowed, not both")
	case len(arg) > 1 && strings.HasPrefix(arg, "/") && strings.HasSuffix(arg, "/"):
		re, err := regexp.Compile(arg[1 : len(arg)-1])
		sel.match = re
		return sel, err
	case !strings.Contains(arg, "/"):
		sel.name = arg
		return sel, nil
	}
	targets, err := s.named(ctx, []string{arg})
	if err != nil {
		return sel, err
	}
	t := targets[0]
	if t.info.Kind == "Pod" && t.info.Group == "" {
		sel.name = t.name
		return sel, nil
	}
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return sel, err
	}
	sel.labels, err = workloadSelector(u)
	return sel, err
}

func (s *session) logs(ctx context.Context, o logOptions, args []string) error {
	arg := ""
	if len(args) > 0 {
		arg = args[0]
	}
	if len(args) == 2 {
		o.container = args[1]
	}
	req, err := o.request(time.Now())
	if err != nil {
		return err
	}
	sel, err := s.selectPods(ctx, arg, o.labels)
	if err != nil {
		return err
	}
	pods := client.Of(s.server.Client, client.Pods())
	if sel.name != "" {
		pod, err := pods.Get(ctx, sel.namespace, sel.name)
		if err != nil {
			return err
		}
		return s.logPods(ctx, o, req, []*corev1.Pod{pod})
	}
	if o.follow {
		return s.followPods(ctx, o, req, sel)
	}
	found, _, err := pods.List(ctx, sel.namespace, client.ListOptions{LabelSelector: sel.labels})
	if err != nil {
		return err
	}
	var matching []*corev1.Pod
	for _, p := range found {
		if sel.matches(p) {
			matching = append(matching, p)
		}
	}
	if len(matching) == 0 {
		return errors.New("no pods match; see `kctl get pods --show-labels`")
	}
	return s.logPods(ctx, o, req, matching)
}

// source is one container whose log is printed.
type source struct{ namespace, pod, container string }

func (o logOptions) sources(pod *corev1.Pod) []source {
	if !o.allContainers {
		return []source{{pod.Namespace, pod.Name, o.container}}
	}
	var out []source
	for _, c := range pod.Spec.InitContainers {
		out = append(out, source{pod.Namespace, pod.Name, c.Name})
	}
	for _, c := range pod.Spec.Containers {
		out = append(out, source{pod.Namespace, pod.Name, c.Name})
	}
	return out
}

func (s *session) logPods(ctx context.Context, o logOptions, req *nodev1.LogsRequest, pods []*corev1.Pod) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for _, p := range pods {
		for _, src := range o.sources(p) {
			run := func() {
				if err := s.logOne(ctx, o, req, src, &mu); err != nil && !o.ignore {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
			if !o.follow {
				run()
				continue
			}
			wg.Go(run)
		}
	}
	wg.Wait()
	return s.report(errs)
}

// followPods prints the logs of all matching pods, now and as they come.
func (s *session) followPods(ctx context.Context, o logOptions, req *nodev1.LogsRequest, sel podSelection) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[source]bool{}
	mirror := client.NewMirror(s.server.Client, client.Pods(), client.MirrorOptions[*corev1.Pod]{Namespace: sel.namespace, LabelSelector: sel.labels})
	mirror.OnChange(func(ch client.Change[*corev1.Pod]) {
		pod := ch.New
		if pod == nil || !sel.matches(pod) || pod.Spec.NodeName == "" {
			return
		}
		for _, src := range o.sources(pod) {
			if seen[src] || !started(pod, src.container) {
				continue
			}
			seen[src] = true
			wg.Go(func() {
				if err := s.logOne(ctx, o, req, src, &mu); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
					mu.Lock()
					fmt.Fprintln(s.err, describeError(s, err))
					mu.Unlock()
				}
			})
		}
	})
	err := mirror.Run(ctx)
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// started reports whether a container has run, so that it has a log. With no container named, any of the pod's will do.
func started(pod *corev1.Pod, container string) bool {
	for _, c := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
		if (container == "" || c.Name == container) && (c.State.Running != nil || c.State.Terminated != nil) {
			return true
		}
	}
	return false
}

func (s *session) logOne(ctx context.Context, o logOptions, req *nodev1.LogsRequest, src source, mu *sync.Mutex) error {
	r := &nodev1.LogsRequest{
		Ref: &nodev1.ContainerRef{Namespace: src.namespace, Pod: src.pod, Container: src.container}, Follow: req.Follow, Previous: req.Previous,
		Timestamps: req.Timestamps, Since: req.Since, TailLines: req.TailLines, LimitBytes: req.LimitBytes,
	}
	stream, err := nodev1.NewNodeServiceClient(s.server.Conn()).Logs(ctx, r)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	w := io.Writer(s.out)
	if o.prefix {
		p := &prefixer{w: s.out, mu: mu, prefix: fmt.Sprintf("[pod/%s/%s] ", src.pod, src.container)}
		defer p.flush()
		w = p
	} else {
		w = &locked{w: s.out, mu: mu}
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return client.FromGRPC(ctx, err)
		}
		if _, err := w.Write(resp.Data); err != nil {
			return err
		}
	}
}

// locked keeps writers of one stream from mixing within a write.
type locked struct {
	w  io.Writer
	mu *sync.Mutex
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// prefixer puts a prefix before every line and writes whole lines only.
type prefixer struct {
	w      io.Writer
	mu     *sync.Mutex
	prefix string
	rest   []byte
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	end := strings.LastIndexByte(string(p.rest), '\n')
	if end < 0 {
		return len(b), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := bufio.NewWriter(p.w)
	for line := range strings.Lines(string(p.rest[:end+1])) {
		out.WriteString(p.prefix)
		out.WriteString(line)
	}
	p.rest = append(p.rest[:0], p.rest[end+1:]...)
	return len(b), out.Flush()
}

func (p *prefixer) flush() {
	if len(p.rest) > 0 {
		_, _ = p.Write([]byte{'\n'})
	}
}
