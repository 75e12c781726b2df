package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"bareboat.dev/client"
)

// copyOptions are the flags of debug that are about a copy of the pod.
type copyOptions struct {
	name                                                     string
	setImage                                                 []string
	labels, annotations, liveness, readiness, startup, inits bool
	share, sameNode, replace                                 bool
}

func (o *copyOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.name, "copy-to", "", "make a copy of the pod with this `name` and leave the pod alone")
	f.StringSliceVar(&o.setImage, "set-image", nil, "with --copy-to, `CONTAINER=IMAGE` to run instead; * is every container")
	f.BoolVar(&o.labels, "keep-labels", false, "with --copy-to, keep the labels")
	f.BoolVar(&o.annotations, "keep-annotations", false, "with --copy-to, keep the annotations")
	f.BoolVar(&o.liveness, "keep-liveness", false, "with --copy-to, keep liveness probes")
	f.BoolVar(&o.readiness, "keep-readiness", false, "with --copy-to, keep readiness probes")
	f.BoolVar(&o.startup, "keep-startup", false, "with --copy-to, keep startup probes")
	f.BoolVar(&o.inits, "keep-init-containers", true, "with --copy-to, keep init containers")
	f.BoolVar(&o.share, "share-processes", true, "with --copy-to, let the containers see each other's processes")
	f.BoolVar(&o.sameNode, "same-node", false, "with --copy-to, on the same node")
	f.BoolVar(&o.replace, "replace", false, "with --copy-to, delete the pod")
}

// cutAny is strings.CutPrefix for the first prefix that fits.
func cutAny(s string, prefixes ...string) (rest string, found bool) {
	for _, p := range prefixes {
		if rest, found = strings.CutPrefix(s, p); found {
			return rest, true
		}
	}
	return s, false
}

// debugCopy makes a copy of a pod in which one container is another, or one more.
func (s *session) debugCopy(ctx context.Context, o debugOptions, name string, command []string) error {
	pods := client.Of(s.server.Client, client.Pods())
	pod, err := pods.Get(ctx, s.namespace, name)
	if err != nil {
		return err
	}
	made, container, err := copyOf(pod, o, command)
	if err != nil {
		return err
	}
	if o.copy.replace {
		if err := pods.Delete(ctx, s.namespace, name, client.DeleteOptions{}); err != nil {
			return err
		}
	}
	return s.runDebugPod(ctx, o, made, container)
}

// debugNode runs a pod that sees all of a node.
func (s *session) debugNode(ctx context.Context, o debugOptions, node string, command []string) error {
	if _, err := client.Of(s.server.Client, client.Nodes()).Get(ctx, "", node); err != nil {
		return err
	}
	made, err := nodePod(node, rand.String(5), o, command)
	if err != nil {
		return err
	}
	if !o.quiet {
		fmt.Fprintf(s.out, "Creating debugging pod %s with container %s on node %s.\n", made.Name, made.Spec.Containers[0].Name, node)
	}
	return s.runDebugPod(ctx, o, made, made.Spec.Containers[0].Name)
}

// runDebugPod creates a pod and with -i or --attach joins its container.
func (s *session) runDebugPod(ctx context.Context, o debugOptions, pod *corev1.Pod, container string) error {
	pod.Namespace = s.namespace
	if _, err := client.Of(s.server.Client, client.Pods()).Create(ctx, pod); err != nil {
		return err
	}
	if !o.attach && !o.stdin {
		return nil
	}
	infos, err := s.server.Resolve(ctx, "pods")
	if err != nil {
		return err
	}
	o.container = container
	return s.attachDebugger(ctx, o, target{infos[0], s.namespace, pod.Name})
}

// copyOf is the pod's copy, and the name of the container in it that is of interest.
func copyOf(pod *corev1.Pod, o debugOptions, command []string) (*corev1.Pod, string, error) {
	made := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: o.copy.name}, Spec: *pod.Spec.DeepCopy()}
	if o.copy.labels {
		made.Labels = pod.Labels
	}
	if o.copy.annotations {
		made.Annotations = pod.Annotations
	}
	spec := &made.Spec
	spec.EphemeralContainers = nil
	if !o.copy.sameNode {
		spec.NodeName = ""
	}
	if !o.copy.inits {
		spec.InitContainers = nil
	}
	for i := range spec.Containers {
		o.copy.dropProbes(&spec.Containers[i])
	}
	if o.copy.share {
		spec.ShareProcessNamespace = new(true)
	}
	if err := setImages(spec.Containers, o.copy.setImage); err != nil {
		return nil, "", err
	}
	name, err := changeOrAdd(spec, o, command)
	if err != nil {
		return nil, "", err
	}
	return made, name, nil
}

func (o copyOptions) dropProbes(c *corev1.Container) {
	if !o.liveness {
		c.LivenessProbe = nil
	}
	if !o.readiness {
		c.ReadinessProbe = nil
	}
	if !o.startup {
		c.StartupProbe = nil
	}
}

// setImages gives containers other images: CONTAINER=IMAGE, where * is every container.
func setImages(containers []corev1.Container, changes []string) error {
	for _, change := range changes {
		name, image, ok := strings.Cut(change, "=")
		if !ok || image == "" {
			return fmt.Errorf("--set-image: %q is not CONTAINER=IMAGE", change)
		}
		found := false
		for i := range containers {
			if name == "*" || containers[i].Name == name {
				containers[i].Image, found = image, true
			}
		}
		if !found {
			return fmt.Errorf("unable to find container named %q", name)
		}
	}
	return nil
}

// changeOrAdd changes the container that the flags name, or adds one of the image that they give.
func changeOrAdd(spec *corev1.PodSpec, o debugOptions, command []string) (string, error) {
	if o.image == "" && o.container == "" && len(command) == 0 {
		return spec.Containers[0].Name, nil
	}
	if at := slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == o.container }); at >= 0 {
		return o.container, o.fill(&spec.Containers[at], command)
	}
	switch {
	case o.image == "" && o.container == "":
		return "", errors.New("you must specify an existing container or a new image when specifying args")
	case o.image == "":
		return "", fmt.Errorf("you must specify image when creating new container: there is no container %q", o.container)
	case o.container == "":
		o.container = "debugger-" + rand.String(5)
	}
	c := corev1.Container{Name: o.container, TerminationMessagePolicy: corev1.TerminationMessageReadFile}
	if err := o.fill(&c, command); err != nil {
		return "", err
	}
	spec.Containers = append(spec.Containers, c)
	return c.Name, nil
}

// fill sets what the flags say of a container.
func (o debugOptions) fill(c *corev1.Container, command []string) error {
	env, err := envList(o.env)
	if err != nil {
		return err
	}
	for _, e := range env {
		m, _ := e.(map[string]any)
		c.Env = append(c.Env, corev1.EnvVar{Name: text(m["name"]), Value: text(m["value"])})
	}
	if o.image != "" {
		c.Image = o.image
	}
	if o.pullPolicy != "" {
		c.ImagePullPolicy = corev1.PullPolicy(o.pullPolicy)
	}
	switch {
	case len(command) == 0:
	case o.argsOnly:
		c.Args = command
	default:
		c.Command, c.Args = command, nil
	}
	c.Stdin, c.TTY = o.stdin, o.tty
	c.SecurityContext, err = o.securityContext(c.SecurityContext)
	return err
}

// nodePod is the pod that debugs a node: it shares the node's namespaces and has its file system at /host, unless the profile
// leaves it nothing of that.
func nodePod(node, suffix string, o debugOptions, command []string) (*corev1.Pod, error) {
	if o.image == "" {
		return nil, errors.New("you must specify --image when debugging a node")
	}
	name := "node-debugger-" + node
	c := corev1.Container{Name: "debugger", TerminationMessagePolicy: corev1.TerminationMessageReadFile}
	if o.container != "" {
		c.Name = o.container
	}
	if err := o.fill(&c, command); err != nil {
		return nil, err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name + "-" + suffix, Labels: map[string]string{"app.kubernetes.io/managed-by": "kctl-debug"}}}
	pod.Spec = corev1.PodSpec{NodeName: node, RestartPolicy: corev1.RestartPolicyNever, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}
	if o.profile == "general" || o.profile == "sysadmin" || o.profile == "netadmin" {
		pod.Spec.HostNetwork, pod.Spec.HostPID, pod.Spec.HostIPC = true, true, true
	}
	if o.profile == "general" {
		c.SecurityContext = nil // the node's namespaces are what there is to see
	}
	if o.profile == "general" || o.profile == "sysadmin" {
		pod.Spec.Volumes = []corev1.Volume{{Name: "host-root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "host-root", MountPath: "/host"}}
	}
	pod.Spec.Containers = []corev1.Container{c}
	return pod, nil
}

// securityContext is what a profile makes of a debugging container's own, nil for one that has none (KEP-1441).
func (o debugOptions) securityContext(own *corev1.SecurityContext) (*corev1.SecurityContext, error) {
	c := own.DeepCopy()
	if c == nil && o.profile != "baseline" {
		c = &corev1.SecurityContext{}
	}
	add := func(capabilities ...corev1.Capability) {
		if c.Capabilities == nil {
			c.Capabilities = &corev1.Capabilities{}
		}
		c.Capabilities.Add = append(c.Capabilities.Add, capabilities...)
	}
	switch o.profile {
	case "baseline":
	case "general":
		add("SYS_PTRACE")
	case "netadmin":
		add("NET_ADMIN", "NET_RAW")
	case "sysadmin":
		c.Privileged = new(true)
	case "restricted":
		c.RunAsNonRoot, c.AllowPrivilegeEscalation = new(true), new(false)
		c.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
		c.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	default:
		return nil, fmt.Errorf("--profile: %q is none of general, baseline, restricted, netadmin, sysadmin", o.profile)
	}
	return c, nil
}

// profileFields is securityContext as the ephemeral container's patch holds it.
func (o debugOptions) profileFields() (map[string]any, error) {
	c, err := o.securityContext(nil)
	if err != nil || c == nil {
		return nil, err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(data, &out)
}

// startedState is the state of a container of a pod, of any sort; empty if the pod does not tell yet.
func startedState(content map[string]any, name string) (corev1.ContainerState, error) {
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &pod); err != nil {
		return corev1.ContainerState{}, err
	}
	for _, c := range slices.Concat(pod.Status.EphemeralContainerStatuses, pod.Status.ContainerStatuses) {
		if c.Name == name {
			return c.State, nil
		}
	}
	return corev1.ContainerState{}, nil
}
