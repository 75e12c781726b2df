// Package plugins finds the plug-ins of this node, as Kubernetes' plug-ins register (pluginregistration v1): each makes a socket in
// <root>/plugins_registry that answers pluginregistration.Registration, and says there of which type it is, and where its own services are.
//
//	r := plugins.New(plugins.Config{Dir: "/var/lib/kubelet/plugins_registry", Log: log, Handlers: map[string]plugins.Handler{
//		registration.CSIPlugin: drivers, registration.DRAPlugin: claims, registration.DevicePlugin: devices,
//	}})
//	err := r.Run(ctx)
//
// The contract:
//
//   - A socket is handed to the handler of its type once, and taken from it when it goes or is made anew.
//   - A plug-in is told whether it was taken in, and if not why; what failed is tried again after [retryPause].
//   - Sockets are asked at once, so that one that hangs keeps no other from being used.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"bareboat.dev/kubelet/dirwatch"
)

const (
	// askLimit is how long a socket may take to say what it is: a plug-in makes it just before it listens. takeLimit is how long its handler
	// may take, which may ask the plug-in more.
	askLimit  = 5 * time.Second
	takeLimit = 10 * time.Second
	// retryPause is when a registration is tried again that failed.
	retryPause = 30 * time.Second
)

// Plugin is what a plug-in says of itself.
type Plugin struct {
	// Socket is that of its registration, and tells it from others; Made is when it was made: a newer one of the same name replaces an older.
	Socket string
	Made   time.Time
	Name   string
	// Endpoint is the socket of its services; that of its registration if it names no other.
	Endpoint string
	// Versions are those of its services that it speaks.
	Versions []string
}

// Handler takes plug-ins of one type in. Its methods may be called from any number of goroutines, but in turn for one socket.
type Handler interface {
	// Register takes a plug-in in. Its error is told to the plug-in.
	Register(ctx context.Context, p Plugin) error
	// Deregister forgets the plug-in of a socket.
	Deregister(socket string)
	// Synced is called when all sockets that were found have been asked.
	Synced()
}

// Config says where plug-ins register.
type Config struct {
	Dir string
	// Handlers are by the type of plug-in.
	Handlers map[string]Handler
	// Watches is how the directory is followed; nil is fine.
	Watches *dirwatch.Source
	Log     *slog.Logger
}

// Registry follows the directory. Make one with New, then call Run.
type Registry struct {
	c Config

	mu sync.Mutex
	// known are the sockets whose plug-ins have been taken in, by path.
	known map[string]taken
}

// taken is a plug-in that has been taken in.
type taken struct {
	info    fs.FileInfo
	handler Handler
}

// New makes a registry.
func New(c Config) *Registry { return &Registry{c: c, known: map[string]taken{}} }

// Run keeps the plug-ins up to date until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	if err := os.MkdirAll(r.c.Dir, 0o750); err != nil {
		return err
	}
	w, err := r.c.Watches.Open(r.c.Dir, dirwatch.Names)
	if err != nil {
		return err
	}
	defer w.Close()
	defer r.keep(nil)
	again := time.NewTimer(0)
	defer again.Stop()
	var seen map[string]fs.FileInfo
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, there := <-w.Changed():
			if !there {
				return fmt.Errorf("the directory of plug-ins' sockets %s was removed", r.c.Dir)
			}
			now, err := dirwatch.Sockets(r.c.Dir)
			if err == nil && maps.EqualFunc(now, seen, dirwatch.SameSocket) {
				continue // nothing that concerns us, or the directory is only looked at
			}
		case <-again.C:
		}
		if seen, err = r.sync(ctx); err != nil && ctx.Err() == nil {
			r.c.Log.Warn("plug-ins were not brought up to date", "error", err)
			again.Reset(retryPause)
		}
	}
}

// sync asks new sockets what they are and forgets those that are gone. It returns the sockets.
func (r *Registry) sync(ctx context.Context) (map[string]fs.FileInfo, error) {
	there, err := dirwatch.Sockets(r.c.Dir)
	if err != nil {
		return nil, err
	}
	r.keep(there)
	var wg sync.WaitGroup
	paths := slices.Sorted(maps.Keys(there))
	failed := make([]error, len(paths))
	for i, path := range paths {
		if r.has(path) {
			continue
		}
		wg.Go(func() {
			if err := r.ask(ctx, path, there[path]); err != nil {
				failed[i] = fmt.Errorf("%s: %w", path, err)
			}
		})
	}
	wg.Wait()
	for _, h := range r.c.Handlers {
		h.Synced()
	}
	return there, errors.Join(failed...)
}

// keep forgets the sockets that are not there any more, or were made anew.
func (r *Registry) keep(there map[string]fs.FileInfo) {
	r.mu.Lock()
	var gone []string
	for path, t := range r.known {
		if info := there[path]; info == nil || !dirwatch.SameSocket(info, t.info) {
			gone = append(gone, path)
		}
	}
	r.mu.Unlock()
	for _, path := range gone {
		r.drop(path)
	}
}

func (r *Registry) has(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, is := r.known[path]
	return is
}

func (r *Registry) drop(path string) {
	r.mu.Lock()
	t, is := r.known[path]
	delete(r.known, path)
	r.mu.Unlock()
	if is {
		t.handler.Deregister(path)
		r.c.Log.Info("plug-in gone", "socket", path)
	}
}

// ask asks a socket what it is, hands it to its handler, and tells it how that went. A plug-in that is told that it is registered can be used.
func (r *Registry) ask(ctx context.Context, path string, info fs.FileInfo) error {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	about, err := r.about(ctx, client)
	if err != nil {
		return fmt.Errorf("GetInfo: %w", err)
	}
	refused := r.take(ctx, path, info, about)
	status := &registration.RegistrationStatus{PluginRegistered: refused == nil}
	if refused != nil {
		status.Error = refused.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if _, err := client.NotifyRegistrationStatus(ctx, status); err != nil && refused == nil {
		r.drop(path)
		return fmt.Errorf("NotifyRegistrationStatus: %w", err)
	}
	if refused == nil {
		r.c.Log.Info("plug-in registered", "type", about.GetType(), "name", about.GetName(), "socket", path)
	}
	return refused
}

func (r *Registry) about(ctx context.Context, client registration.RegistrationClient) (*registration.PluginInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return client.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
}

// take hands a plug-in to the handler of its type.
func (r *Registry) take(ctx context.Context, path string, info fs.FileInfo, about *registration.PluginInfo) error {
	h := r.c.Handlers[about.GetType()]
	if h == nil {
		return fmt.Errorf("RegisterPlugin error -- no handler registered for plugin type: %s at socket %s", about.GetType(), path)
	}
	ctx, cancel := context.WithTimeout(ctx, takeLimit)
	defer cancel()
	p := Plugin{Socket: path, Made: info.ModTime(), Name: about.GetName(), Endpoint: about.GetEndpoint(), Versions: about.GetSupportedVersions()}
	if p.Endpoint == "" {
		p.Endpoint = path
	}
	if err := h.Register(ctx, p); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[path] = taken{info, h}
	return nil
}
