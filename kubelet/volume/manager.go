package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/podcert"
)

// Sources looks up what volumes are filled with. Errors that apierrors.IsNotFound recognizes mean that there is no such
// object.
type Sources interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// Token asks for a ServiceAccount token bound to the pod (TokenRequest).
	Token(ctx context.Context, p *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (Token, error)
	// Claim returns a claim and the PersistentVolume that its specification names, nil if it names none.
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error)
}

// Trust looks up whom pods trust and how they prove who they are.
type Trust interface {
	// TrustBundle returns a trust bundle by its name, TrustBundles all of a signer.
	TrustBundle(ctx context.Context, name string) (*certificatesv1.ClusterTrustBundle, error)
	TrustBundles(ctx context.Context, signer string) ([]*certificatesv1.ClusterTrustBundle, error)
	// Certificate returns the pod's credential for a source, and does what is due to get the next one: see [podcert.Manager.Credential].
	Certificate(ctx context.Context, p *corev1.Pod, source *corev1.PodCertificateProjection, s *podcert.State) (podcert.Credential, error)
}

// Token is a ServiceAccount token and when to replace it.
type Token struct {
	Value   string
	Renew   time.Time
	Expires time.Time
}

// Config says where volumes are made and with what.
type Config struct {
	// Root is the kubelet's directory, /var/lib/kubelet.
	Root    string
	Sources Sources
	// Trust may be nil where no pod has such sources.
	Trust Trust
	// Plugins make the volumes of other kinds, by their names.
	Plugins map[string]Plugin
	// Allocatable are the node's, for resource fields of the downward API.
	Allocatable func() corev1.ResourceList
	Now         func() time.Time
}

// Manager makes volumes. Its methods may be called from any number of goroutines; those about one pod run one at a time.
type Manager struct {
	c Config

	mu   sync.Mutex
	pods map[types.UID]*podState
}

// podState is what is known of a pod's volumes. Its lock serializes work on them.
type podState struct {
	mu sync.Mutex
	// gone is set when the volumes have been removed: who waited for the lock meanwhile does not make any anew.
	gone         bool
	tokens       map[string]Token
	certificates map[string]*podcert.State
	// claims are the volumes with claims behind them that have been looked up, by their names. A claim stays bound to its volume.
	claims map[string]Request
}

// New makes a manager. It keeps nothing on disk but the volumes.
func New(c Config) *Manager {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Manager{c: c, pods: map[types.UID]*podState{}}
}

func (m *Manager) state(uid types.UID) *podState {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.pods[uid]
	if s == nil {
		s = &podState{tokens: map[string]Token{}, certificates: map[string]*podcert.State{}, claims: map[string]Request{}}
		m.pods[uid] = s
	}
	return s
}

// PodDir is the pod's directory.
func (m *Manager) PodDir(uid types.UID) string {
	return filepath.Join(m.c.Root, "pods", string(uid))
}

// plugin names, as Kubernetes escapes them in paths.
const (
	pluginEmptyDir  = "kubernetes.io~empty-dir"
	pluginConfigMap = "kubernetes.io~configmap"
	pluginSecret    = "kubernetes.io~secret"
	pluginDownward  = "kubernetes.io~downward-api"
	pluginProjected = "kubernetes.io~projected"
)

// ErrUnsupported: the volume is of a kind that this node has no driver for.
var ErrUnsupported = errors.New("no volume plugin matched")

// Mount makes all of the pod's volumes, or brings them up to date. A failure names the volume.
func (m *Manager) Mount(ctx context.Context, p *corev1.Pod) error {
	s := m.state(p.UID)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if err := m.mountOne(ctx, s, p, v); err != nil {
			return &Error{Volume: v.Name, Err: err}
		}
	}
	return nil
}

// Error is a failure to make a volume.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (m *Manager) mountOne(ctx context.Context, s *podState, p *corev1.Pod, v *corev1.Volume) error {
	switch {
	case v.EmptyDir != nil:
		return m.mountEmptyDir(p, v)
	case v.HostPath != nil:
		return prepareHostPath(v.HostPath)
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		return m.mountFiles(ctx, s, p, v)
	}
	_, err := m.claimPath(ctx, p, v, true)
	return err
}

// renewRetry is when a token that could not be replaced in time, but is still good, is asked for again.
const renewRetry = 10 * time.Second

// Refresh brings the files of the pod's volumes up to date with what they are made from, and has plug-ins do so. It returns when it must
// be called again because a token or a certificate will have to be replaced, or because a plug-in says so; zero if never.
func (m *Manager) Refresh(ctx context.Context, p *corev1.Pod) (again time.Time, err error) {
	return m.refresh(ctx, m.state(p.UID), p)
}

func (m *Manager) refresh(ctx context.Context, s *podState, p *corev1.Pod) (again time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return time.Time{}, nil
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		var e error
		switch {
		case filePlugin(v) != "":
			e = m.mountFiles(ctx, s, p, v)
		case v.EmptyDir == nil && v.HostPath == nil:
			var at time.Time
			if at, e = m.refreshPlugged(ctx, p, v); !at.IsZero() && (again.IsZero() || at.Before(again)) {
				again = at
			}
		}
		if e != nil {
			err = errors.Join(err, &Error{Volume: v.Name, Err: e})
		}
	}
	for _, t := range s.tokens {
		if again.IsZero() || t.Renew.Before(again) {
			again = t.Renew
		}
	}
	for _, c := range s.certificates {
		if at := c.Next(m.c.Now()); !at.IsZero() && (again.IsZero() || at.Before(again)) {
			again = at
		}
	}
	if soonest := m.c.Now().Add(renewRetry); !again.IsZero() && again.Before(soonest) {
		again = soonest // what is overdue has just failed
	}
	return again, err
}

// Path is where a volume of the pod is on this node.
func (m *Manager) Path(ctx context.Context, p *corev1.Pod, v *corev1.Volume) (string, error) {
	switch {
	case v.HostPath != nil:
		return v.HostPath.Path, nil
	case v.EmptyDir != nil:
		return m.dir(p.UID, pluginEmptyDir, v.Name), nil
	}
	if plugin := filePlugin(v); plugin != "" {
		return m.dir(p.UID, plugin, v.Name), nil
	}
	return m.claimPath(ctx, p, v, false)
}

func (m *Manager) dir(uid types.UID, plugin, volume string) string {
	return filepath.Join(m.PodDir(uid), "volumes", plugin, volume)
}

// claimPath is where the volume is that a claim is bound to, or that a plug-in makes: a path of this host. With mount it is made there.
func (m *Manager) claimPath(ctx context.Context, p *corev1.Pod, v *corev1.Volume, mount bool) (string, error) {
	r, err := m.request(ctx, p, v, mount)
	if err != nil {
		return "", err
	}
	switch plugin := pluginOf(r); {
	case plugin != "" && mount:
		return m.plugged(ctx, r)
	case plugin != "" && m.c.Plugins[plugin] != nil:
		return m.c.Plugins[plugin].Path(r), nil
	case r.PV == nil:
		return "", fmt.Errorf("%w for volume %q", ErrUnsupported, v.Name)
	case r.PV.Spec.HostPath != nil:
		return r.PV.Spec.HostPath.Path, prepareHostPath(r.PV.Spec.HostPath)
	case r.PV.Spec.Local != nil:
		return r.PV.Spec.Local.Path, m.prepareLocal(r, mount)
	}
	return "", fmt.Errorf("%w for PersistentVolume %q", ErrUnsupported, r.PV.Name)
}

// prepareLocal checks the path of a local volume, which is made if the local-path provisioner says so, and gives its files to the
// pod's group.
func (m *Manager) prepareLocal(r Request, mount bool) error {
	path := r.PV.Spec.Local.Path
	if mount && IsLocalPath(r.PV) && r.PV.DeletionTimestamp == nil {
		if err := makeLocalPath(LocalPathRoot, r.PV); err != nil {
			return err
		}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("path %q does not exist", path)
	case r.Block() && (info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0):
		return fmt.Errorf("path %q is not a block device", path)
	case r.Block() || !mount || r.ReadOnly():
		return nil
	}
	return applyFSGroup(path, r.Pod)
}

// unplugLimit bounds how long drivers may take to unmount a pod's volumes before it is tried again.
const unplugLimit = 2 * time.Minute

// Unmount takes all of the pod's volumes away.
func (m *Manager) Unmount(uid types.UID) error {
	s := m.state(uid)
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := m.PodDir(uid)
	// Binds of parts of volumes first: a driver cannot unmount what is in use.
	if err := removeTree(filepath.Join(dir, "volume-subpaths")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), unplugLimit)
	defer cancel()
	if err := m.unplug(ctx, uid); err != nil {
		return err
	}
	for _, sub := range []string{"volume-subpaths", "volumes"} {
		if err := removeTree(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, uid)
	s.gone = true
	return nil
}

// RemovePodDir removes a pod's directory, with whatever volumes are left in it.
func (m *Manager) RemovePodDir(uid types.UID) error {
	if err := m.Unmount(uid); err != nil {
		return err
	}
	return removeTree(m.PodDir(uid))
}
