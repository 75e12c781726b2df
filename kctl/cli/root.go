// Package cli is kctl's commands, one file each. Commands parse flags and print; what they do is in the packages beside it.
// Verbs, flags, output formats and exit codes are kubectl's where kubectl has them.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
)

// Version is the build's version; the linker sets it.
var Version = "v0.1.0-dev"

// session is what commands share: streams, the global flags, and the connection once it is needed.
type session struct {
	in       io.Reader
	out, err io.Writer

	kubeconfig, context, namespace string
	// namespaceGiven says that the user chose the namespace for this command.
	namespaceGiven bool
	server         *api.Server
	config         *client.Config
	// warned are the server's warnings that have been printed.
	warned map[string]bool
}

// exitError ends kctl with a code of its own; the message may be empty.
type exitError struct {
	code int
	msg  string
}

// Error implements error.
func (e *exitError) Error() string { return e.msg }

// Run runs kctl and returns its exit code: 0, 1 for a failure, or the code of a command run in a container.
func Run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	s := &session{in: in, out: out, err: errOut}
	root := s.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if s.server != nil {
		s.server.Close()
	}
	return exitCode(s, err, errOut)
}

// exitCode prints an error as a user should see it and returns kctl's exit code.
func exitCode(s *session, err error, errOut io.Writer) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.msg != "" {
			fmt.Fprintln(errOut, exit.msg)
		}
		return exit.code
	}
	for _, e := range each(err) {
		fmt.Fprintln(errOut, describeError(s, e))
	}
	return 1
}

// describeError is the one line that a user sees.
func describeError(s *session, err error) string {
	var status *apierrors.StatusError
	switch answered := errors.As(err, &status); {
	case !answered && client.IsUnavailable(err) && s.config != nil:
		return fmt.Sprintf("Unable to connect to the server: %v; is the cluster up? (servers: %v)", err, s.config.Endpoints)
	case answered && apierrors.IsInvalid(err):
		return invalid(status)
	case answered && status.ErrStatus.Reason != "":
		return fmt.Sprintf("Error from server (%s): %s", status.ErrStatus.Reason, oneLine(err))
	case answered:
		return "Error from server: " + oneLine(err)
	}
	return "error: " + oneLine(err)
}

// invalid says what is wrong with an object: in a line, or if that is several things, in a line for each.
func invalid(err *apierrors.StatusError) string {
	details := err.ErrStatus.Details
	if details == nil {
		return "The request is invalid: " + oneLine(err)
	}
	subject := "The request"
	switch {
	case details.Kind != "" && details.Name != "":
		subject = fmt.Sprintf("The %s %q", details.Kind, details.Name)
	case details.Kind != "":
		subject = "The " + details.Kind
	case details.Name != "":
		subject = "The " + details.Name
	}
	var wrong []string
	for _, c := range details.Causes {
		if text := strings.TrimPrefix(c.Field+": "+c.Message, ": "); !slices.Contains(wrong, text) {
			wrong = append(wrong, text)
		}
	}
	switch len(wrong) {
	case 0:
		return subject + " is invalid: " + oneLine(err)
	case 1:
		return subject + " is invalid: " + wrong[0]
	}
	return subject + " is invalid: \n* " + strings.Join(wrong, "\n* ")
}

// causes are the single reasons of an answer of the server.
func causes(err error) []metav1.StatusCause {
	var status *apierrors.StatusError
	if !errors.As(err, &status) || status.ErrStatus.Details == nil {
		return nil
	}
	return status.ErrStatus.Details.Causes
}

// oneLine keeps an error to a line, which scripts and logs count on.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		parts = append(parts, strings.TrimSpace(line))
	}
	return strings.Join(parts, " ")
}

func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "kctl",
		Short:         "kctl operates Bareboat clusters",
		Long:          "kctl operates Bareboat clusters over gRPC. Its verbs, flags and output are kubectl's, and it starts and stops clusters.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := root.PersistentFlags()
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default $KUBECONFIG, then /etc/bareboat/admin.conf")
	f.StringVar(&s.context, "context", "", "`name` of the kubeconfig context to use")
	f.StringVarP(&s.namespace, "namespace", "n", "", "`namespace` of the request; default the context's, or \"default\"")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{code: 1, msg: fmt.Sprintf("error: %v; see `%s --help`", err, c.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "cluster", Title: "Cluster:"},
		&cobra.Group{ID: "objects", Title: "Objects:"},
		&cobra.Group{ID: "pods", Title: "Pods:"},
		&cobra.Group{ID: "other", Title: "Other:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("cluster", s.upCommand(), s.downCommand(), s.pkiCommand(), s.imageCommand(), s.certificateCommand())
	add("cluster", s.cordonCommand(true), s.cordonCommand(false), s.drainCommand(), s.taintCommand())
	add("objects", s.applyCommand(), s.createCommand(), s.getCommand(), s.describeCommand(), s.deleteCommand(), s.patchCommand(),
		s.editCommand(), s.replaceCommand(), s.diffCommand(), s.setCommand(), s.exposeCommand(),
		s.scaleCommand(), s.autoscaleCommand(), s.rolloutCommand(), s.labelCommand("label"), s.labelCommand("annotate"), s.waitCommand(), s.treeCommand())
	add("pods", s.runCommand(), s.logsCommand(), s.execCommand(), s.attachCommand(), s.debugCommand(), s.portForwardCommand(), s.cpCommand(), s.topCommand(), s.eventsCommand(), s.whyCommand())
	add("other", s.apiResourcesCommand(), s.apiVersionsCommand(), s.clusterInfoCommand(), s.explainCommand(), s.authCommand(), s.versionCommand(), s.configCommand())
	root.AddCommand(s.superviseCommand())
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	s.registerCompletions(root)
	return root
}

// connect returns the connection, making it on first use.
func (s *session) connect() (*api.Server, error) {
	if s.server != nil {
		return s.server, nil
	}
	cfg, err := client.LoadConfig(s.kubeconfig, s.context)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w; start a cluster with `kctl up`, or name a kubeconfig with --kubeconfig or $KUBECONFIG", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; run this as root, or name a kubeconfig that you may read with --kubeconfig or $KUBECONFIG", err)
	case err != nil:
		return nil, err
	}
	cfg.UserAgent = "kctl/" + Version
	c, err := client.Dial(cfg)
	if err != nil {
		return nil, err
	}
	s.config = cfg
	s.namespaceGiven = s.namespace != ""
	if s.namespace == "" {
		s.namespace = cfg.Namespace
	}
	if s.namespace == "" {
		s.namespace = "default"
	}
	s.server = api.New(c, s.warn)
	return s.server, nil
}
