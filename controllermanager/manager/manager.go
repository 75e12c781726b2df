// Package manager puts the controllers together and runs them while this process leads.
package manager

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"bareboat.dev/client"
	"bareboat.dev/client/events"
	"bareboat.dev/client/leader"
	"bareboat.dev/controllermanager/adapters"
	"bareboat.dev/controllermanager/attachdetach"
	"bareboat.dev/controllermanager/autoscaler"
	"bareboat.dev/controllermanager/certificates"
	"bareboat.dev/controllermanager/claimprotection"
	"bareboat.dev/controllermanager/clusterrole"
	"bareboat.dev/controllermanager/config"
	"bareboat.dev/controllermanager/cronjob"
	"bareboat.dev/controllermanager/daemonset"
	"bareboat.dev/controllermanager/deployment"
	"bareboat.dev/controllermanager/devicetaint"
	"bareboat.dev/controllermanager/disruption"
	"bareboat.dev/controllermanager/endpoints"
	"bareboat.dev/controllermanager/endpointslice"
	"bareboat.dev/controllermanager/endpointslicemirroring"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/ephemeral"
	"bareboat.dev/controllermanager/garbagecollector"
	"bareboat.dev/controllermanager/job"
	"bareboat.dev/controllermanager/localpath"
	"bareboat.dev/controllermanager/namespace"
	"bareboat.dev/controllermanager/nodeipam"
	"bareboat.dev/controllermanager/nodelifecycle"
	"bareboat.dev/controllermanager/persistentvolume"
	"bareboat.dev/controllermanager/podgc"
	"bareboat.dev/controllermanager/replicaset"
	"bareboat.dev/controllermanager/replicationcontroller"
	"bareboat.dev/controllermanager/resourceclaim"
	"bareboat.dev/controllermanager/resourcequota"
	"bareboat.dev/controllermanager/rootca"
	"bareboat.dev/controllermanager/serviceaccount"
	"bareboat.dev/controllermanager/statefulset"
	"bareboat.dev/controllermanager/storagemigration"
	"bareboat.dev/controllermanager/tokencleaner"
	"bareboat.dev/controllermanager/ttlafterfinished"
	"bareboat.dev/controllermanager/volumeprotection"
)

// LeaseName is the Lease that controller managers elect their leader by, upstream's.
const LeaseName = "kube-controller-manager"

// Options are what a manager is made of.
type Options struct {
	Client *client.Client
	Config *config.Config
	// RootCA is published to every namespace; empty: not.
	RootCA string
	// Paths reads what has no gRPC method, such as the metrics of adapters behind the API server; nil: there is none.
	Paths adapters.Paths
	// Identity of this process in the election.
	Identity string
	Log      *slog.Logger
	Metrics  *engine.Metrics
	// Discover is engine.Options.Discover.
	Discover func(ctx context.Context) ([]engine.Resource, error)
	// Leading is told when this process begins and stops to act.
	Leading func(bool)
}

// Controllers returns the set that the settings ask for; rootCA and paths are those of Options. Its error names a word of --controllers that names no controller.
func Controllers(cfg *config.Config, rootCA string, paths adapters.Paths) ([]engine.Controller, error) {
	pools, err := cfg.Pools()
	if err != nil {
		return nil, err
	}
	set := []engine.Controller{
		deployment.Controller(),
		replicaset.Controller(),
		replicationcontroller.Controller(),
		statefulset.Controller(),
		daemonset.Controller(),
		job.Controller(),
		cronjob.Controller(),
		ttlafterfinished.Controller(),
		disruption.Controller(),
		endpointslice.Controller(),
		endpoints.Controller(),
		endpointslicemirroring.Controller(),
		namespace.Controller(),
		garbagecollector.Controller(),
		podgc.Controller(cfg.TerminatedPodGCThreshold),
		serviceaccount.Controller(),
		tokencleaner.Controller(),
		clusterrole.Controller(),
		resourcequota.Controller(),
		autoscaler.Controller(paths),
		persistentvolume.Controller(),
		localpath.Controller(),
		attachdetach.Controller(),
		ephemeral.Controller(),
		claimprotection.Controller(),
		volumeprotection.Controller(),
		resourceclaim.Controller(),
		storagemigration.Controller(),
		devicetaint.Controller(),
	}
	set = append(set, nodelifecycle.Controllers(cfg.NodeLifecycle())...)
	set = append(set, certificates.Controllers(cfg.Authority())...)
	if len(pools) > 0 {
		set = append(set, nodeipam.Controller(pools))
	}
	if rootCA != "" {
		set = append(set, rootca.Controller(rootCA))
	}
	if err := checkNames(cfg.Controllers, set); err != nil {
		return nil, err
	}
	return set, nil
}

// checkNames refuses a selection that a typing error would make wrong unnoticed.
func checkNames(words []string, set []engine.Controller) error {
	// These are in the set only if other settings ask for them.
	known := []string{nodeipam.Name, rootca.ControllerName, certificates.SigningName}
	for _, c := range set {
		known = append(known, c.Name)
	}
	slices.Sort(known)
	for _, word := range words {
		if name := strings.TrimPrefix(word, "-"); name != "*" && !slices.Contains(known, name) {
			return fmt.Errorf("--controllers: %q is not a controller; there are %s", name, strings.Join(slices.Compact(known), ", "))
		}
	}
	return nil
}

// Run acts as a controller manager until ctx ends: always, or with leader election while it leads. A term is one engine, made
// anew for each, so that nothing known before a loss of leadership is ever acted on.
func Run(ctx context.Context, o Options) error {
	controllers, err := Controllers(o.Config, o.RootCA, o.Paths)
	if err != nil {
		return err
	}
	recorder := events.NewRecorder(o.Client, "controllermanager", "")
	recorder.SetLog(o.Log)
	// The declarations are checked once, before standing for election.
	newEngine := func() (*engine.Engine, error) {
		return engine.New(engine.Options{
			Client: o.Client, Events: recorder, Log: o.Log, Metrics: o.Metrics, Enabled: o.Config.Enabled, Discover: o.Discover,
		}, controllers...)
	}
	if _, err := newEngine(); err != nil {
		return err
	}
	act := func(ctx context.Context) error {
		e, err := newEngine()
		if err != nil {
			return err
		}
		o.Leading(true)
		defer o.Leading(false)
		return e.Run(ctx)
	}
	// The recorder ends last, so that the controllers' last words are written, too.
	recording, stop := context.WithCancel(context.WithoutCancel(ctx))
	return client.RunAll(ctx, func(context.Context) error { return recorder.Run(recording) }, func(ctx context.Context) error {
		defer stop()
		if !o.Config.LeaderElect {
			return act(ctx)
		}
		return elect(ctx, o, act)
	})
}

// elect acts while this process leads. A term that ends by an error ends the process: its supervisor starts a fresh one.
func elect(ctx context.Context, o Options, act func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := leader.Run(ctx, o.Client, leader.Config{
		Name: LeaseName, Identity: o.Identity, LeaseDuration: o.Config.LeaderElectLeaseDuration.Duration, Log: o.Log,
		OnStarted: func(ctx context.Context) {
			if err := act(ctx); err != nil {
				cancel(err)
			}
		},
	})
	if cause := context.Cause(ctx); cause != nil && cause != ctx.Err() {
		return cause
	}
	return err
}
