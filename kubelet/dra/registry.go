package dra

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
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"bareboat.dev/kubelet/dirwatch"
)

const (
	// registerLimit is how long a socket may take to answer: a driver makes it just before it listens. Afterwards it is tried again
	// when something changes in the directory, or at the next retryPause.
	registerLimit = 5 * time.Second
	// retryPause is when what failed is tried again: a registration, or giving a claim back.
	retryPause = 30 * time.Second
)

// ErrNoDriver says that a driver is not registered on this node.
var ErrNoDriver = errors.New("not found among the registered DRA drivers")

// registry knows the drivers that are registered on this node.
type registry struct {
	dir     string
	watches *dirwatch.Source
	log     *slog.Logger
	// changed is told when a driver has come.
	changed func()

	mu      sync.Mutex
	sockets map[string]registered // by path
}

// registered is a socket that was asked what it is; its driver is nil if it is another kind of plug-in's.
type registered struct {
	info   fs.FileInfo
	driver *driver
}

// find returns a driver by its name. If there are several, as while one is replaced, it is that of the newest socket.
func (r *registry) find(name string) (*driver, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest registered
	for _, s := range r.sockets {
		if s.driver != nil && s.driver.name == name && (newest.driver == nil || s.info.ModTime().After(newest.info.ModTime())) {
			newest = s
		}
	}
	if newest.driver == nil {
		return nil, fmt.Errorf("driver name %s %w", name, ErrNoDriver)
	}
	return newest.driver, nil
}

// run keeps the drivers up to date until ctx ends.
func (r *registry) run(ctx context.Context) error {
	if err := os.MkdirAll(r.dir, 0o750); err != nil {
		return err
	}
	w, err := r.watches.Open(r.dir, dirwatch.Names)
	if err != nil {
		return err
	}
	defer w.Close()
	defer r.keep(nil)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, there := <-w.Changed():
			if !there {
				return fmt.Errorf("the directory of plug-ins' sockets %s was removed", r.dir)
			}
		case <-again.C:
		}
		if err := r.sync(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("DRA drivers were not brought up to date", "error", err)
			again.Reset(retryPause)
		}
	}
}

// sync asks new sockets what they are and forgets those that are gone.
func (r *registry) sync(ctx context.Context) error {
	there, err := dirwatch.Sockets(r.dir)
	if err != nil {
		return err
	}
	r.keep(there)
	var all error
	for _, path := range slices.Sorted(maps.Keys(there)) {
		if !r.has(path) {
			if err := r.register(ctx, path, there[path]); err != nil {
				all = errors.Join(all, fmt.Errorf("%s: %w", path, err))
			}
		}
	}
	return all
}

// keep drops the sockets that are not there any more, or were made anew; only some, if they are named.
func (r *registry) keep(there map[string]fs.FileInfo, only ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, s := range r.sockets {
		if len(only) > 0 && !slices.Contains(only, path) {
			continue
		}
		if info := there[path]; info != nil && dirwatch.SameSocket(info, s.info) {
			continue
		}
		delete(r.sockets, path)
		if s.driver != nil {
			s.driver.close()
			r.log.Info("DRA driver gone", "driver", s.driver.name)
		}
	}
}

func (r *registry) has(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.sockets[path]
	return ok
}

// register asks a socket what it is, and takes it in if it is a DRA driver. The driver is told how that went.
func (r *registry) register(ctx context.Context, path string, info fs.FileInfo) error {
	conn, err := dial(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, registerLimit)
	defer cancel()
	client := registration.NewRegistrationClient(conn)
	about, err := client.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("GetInfo: %w", err)
	}
	s := registered{info: info}
	if about.GetType() != registration.DRAPlugin {
		r.set(path, s)
		return nil
	}
	var refused error
	status := &registration.RegistrationStatus{}
	if s.driver, refused = accept(about, path); refused != nil {
		status.Error = refused.Error()
	} else {
		status.PluginRegistered = true
		r.set(path, s) // a driver that is told so can be used
	}
	if _, err := client.NotifyRegistrationStatus(ctx, status); err != nil && refused == nil {
		r.keep(map[string]fs.FileInfo{}, path)
		return fmt.Errorf("NotifyRegistrationStatus: %w", err)
	}
	if refused != nil {
		return refused
	}
	r.log.Info("DRA driver registered", "driver", s.driver.name, "socket", path)
	r.changed()
	return nil
}

func (r *registry) set(path string, s registered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sockets[path] = s
}
