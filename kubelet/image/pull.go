package image

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

const (
	// maxIndexDepth bounds indexes within indexes; one level is what exists.
	maxIndexDepth = 3
	// maxLayers is what overlayfs can stack: 500 lower layers since Linux 4.13, and Docker's own limit of 127 for images.
	maxLayers = 127
	// partialAge is how long a download that was cut off is kept to go on with.
	partialAge = 24 * time.Hour
)

// Pull makes the image that ref names present and current, and returns it. A reference without a tag means :latest.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	r, err := parse(ref)
	if err != nil {
		return Image{}, err
	}
	list, err := places(r, &o)
	if err != nil {
		return Image{}, err
	}
	var failed error
	for _, p := range list {
		img, err := s.pullFrom(ctx, r, p, &o)
		if err == nil || ctx.Err() != nil {
			return img, err
		}
		failed = classify(full(r), err) // the registry's own verdict, which comes last, is what counts
	}
	return Image{}, failed
}

// pullFrom tries the credentials on one place, and anonymous access last.
func (s *Store) pullFrom(ctx context.Context, ref name.Reference, p place, o *PullOptions) (Image, error) {
	var failed error
	for _, auth := range credentials(o.Auth) {
		img, err := s.pullAs(ctx, ref, p, auth, o)
		if err == nil {
			return img, nil
		}
		if failed == nil || !errors.Is(classify("", err), ErrUnauthorized) {
			failed = err
		}
		if !errors.Is(classify("", err), ErrUnauthorized) {
			break
		}
	}
	return Image{}, failed
}

// credentials are what to try, in order; nil is anonymous access.
func credentials(auths []Auth) []*Auth {
	list := make([]*Auth, 0, len(auths)+1)
	for i := range auths {
		list = append(list, &auths[i])
	}
	return append(list, nil)
}

func (a *Auth) authenticator() authn.Authenticator {
	if a == nil {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken})
}

func (s *Store) pullAs(ctx context.Context, ref name.Reference, p place, auth *Auth, o *PullOptions) (Image, error) {
	src, err := p.connect(ctx, ref.Context().RepositoryStr(), auth.authenticator(), cmp.Or(s.options.Patience, defaultPatience))
	if err != nil {
		return Image{}, err
	}
	defer src.close()
	m, err := s.resolve(ctx, src, ref)
	if err != nil {
		return Image{}, err
	}
	config, err := src.small(ctx, m.manifest.Config.Digest)
	if err != nil {
		return Image{}, err
	}
	names := []string{repository(ref) + "@" + m.asked}
	if _, tagged := ref.(name.Tag); tagged {
		names = append(names, full(ref))
	}
	return s.add(ctx, m, config, names, grant{repositories: []string{repository(ref)}, by: auth}, func(ctx context.Context, i int) (io.ReadCloser, error) {
		return s.fetchLayer(ctx, src, m.manifest.Layers[i], o)
	})
}

// resolved is a manifest for this machine.
type resolved struct {
	manifest *v1.Manifest
	raw      []byte
	digest   string // of the manifest
	asked    string // of what the reference itself names: an index, perhaps
}

// resolve follows a reference through indexes to the manifest for this machine.
func (s *Store) resolve(ctx context.Context, src *source, ref name.Reference) (resolved, error) {
	identifier, asked := ref.Identifier(), ""
	for range maxIndexDepth {
		raw, digest, err := src.manifest(ctx, identifier)
		if err != nil {
			return resolved{}, err
		}
		if asked == "" {
			asked = digest
		}
		next, m, err := s.interpret(raw)
		if err != nil {
			return resolved{}, err
		}
		if m != nil {
			return resolved{manifest: m, raw: raw, digest: digest, asked: asked}, nil
		}
		identifier = next
	}
	return resolved{}, fmt.Errorf("%w: indexes more than %d deep", ErrCorrupt, maxIndexDepth)
}

// interpret tells what a document is: a manifest, or an index, of which it picks the entry for this machine.
func (s *Store) interpret(raw []byte) (next string, m *v1.Manifest, err error) {
	var probe struct {
		MediaType types.MediaType `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &probe); err != nil {
		return "", nil, fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
	}
	switch {
	case probe.MediaType.IsIndex() || probe.MediaType == "" && probe.Manifests != nil:
		ix, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return "", nil, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
		}
		next, err = s.pick(ix)
		return next, nil, err
	case probe.MediaType.IsImage() || probe.MediaType == "" && probe.Config != nil:
		m, err := v1.ParseManifest(bytes.NewReader(raw))
		if err != nil {
			return "", nil, fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
		}
		return "", m, checkManifest(m)
	default:
		return "", nil, fmt.Errorf("%w: %q is not an image", ErrCorrupt, probe.MediaType)
	}
}

func checkManifest(m *v1.Manifest) error {
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%w: %d layers, at most %d can be stacked", ErrTooLarge, len(m.Layers), maxLayers)
	}
	for _, l := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if l.Digest.Algorithm != "sha256" || l.Size < 0 {
			return fmt.Errorf("%w: descriptor %s of %d bytes", ErrCorrupt, l.Digest, l.Size)
		}
	}
	return nil
}

// pick chooses the entry for this machine: the first that fits, with the same variant if there is one.
func (s *Store) pick(ix *v1.IndexManifest) (string, error) {
	var have []string
	var fits string
	for _, d := range ix.Manifests {
		if d.Platform == nil || d.Platform.OS == "" {
			if d.Platform == nil && len(ix.Manifests) == 1 {
				return d.Digest.String(), nil
			}
			continue
		}
		have = append(have, d.Platform.String())
		if d.Platform.OS != s.platform.OS || d.Platform.Architecture != s.platform.Architecture {
			continue
		}
		if d.Platform.Variant == s.platform.Variant {
			return d.Digest.String(), nil
		}
		if fits == "" && s.platform.Variant == "" {
			fits = d.Digest.String()
		}
	}
	if fits == "" {
		return "", fmt.Errorf("%w %s: it has %s", ErrNoPlatform, s.platform, strings.Join(have, ", "))
	}
	return fits, nil
}

// fetchLayer downloads a layer's blob into a file that vanishes when it is closed.
func (s *Store) fetchLayer(ctx context.Context, src *source, layer v1.Descriptor, o *PullOptions) (io.ReadCloser, error) {
	select {
	case s.download <- struct{}{}:
		defer func() { <-s.download }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var progress func(int64)
	if o.Progress != nil {
		progress = func(done int64) { o.Progress(Progress{Layer: layer.Digest.String(), Done: done, Total: layer.Size}) }
	}
	// Two manifests may have one blob under several diff IDs only if one of them lies, but then both may be downloading: one at a time.
	path := s.path(partialDir, layer.Digest.Hex)
	var file *os.File
	err := s.flights.do(ctx, path, func() error {
		f, err := src.blob(ctx, path, layer, progress)
		if err != nil {
			return err
		}
		file = f
		return os.Remove(path)
	})
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return nil, err
	}
	return file, nil
}

// sweepPartial removes downloads that nobody went on with.
func (s *Store) sweepPartial() error {
	entries, err := os.ReadDir(s.path(partialDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > partialAge {
			if err := os.Remove(s.path(partialDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// add makes an image of its manifest, its config and its layers, of which it opens those that are missing, and records it under names and to whom it was given.
func (s *Store) add(ctx context.Context, m resolved, rawConfig []byte, names []string, g grant, open func(context.Context, int) (io.ReadCloser, error)) (Image, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(rawConfig))
	if err != nil {
		return Image{}, fmt.Errorf("%w: config: %w", ErrCorrupt, err)
	}
	if config.OS != "" && config.OS != s.platform.OS || config.Architecture != "" && config.Architecture != s.platform.Architecture {
		return Image{}, fmt.Errorf("%w %s: it is for %s/%s", ErrNoPlatform, s.platform, config.OS, config.Architecture)
	}
	diffIDs := make([]string, 0, len(config.RootFS.DiffIDs))
	for _, d := range config.RootFS.DiffIDs {
		if d.Algorithm != "sha256" {
			return Image{}, fmt.Errorf("%w: diff ID %s", ErrCorrupt, d)
		}
		diffIDs = append(diffIDs, d.String())
	}
	if len(diffIDs) != len(m.manifest.Layers) || len(diffIDs) == 0 {
		return Image{}, fmt.Errorf("%w: %d layers for %d diff IDs", ErrCorrupt, len(m.manifest.Layers), len(diffIDs))
	}
	defer s.hold(append([]string{digestOf(rawConfig), m.digest}, diffIDs...))()
	group, groupCtx := errgroup.WithContext(ctx)
	for i, d := range diffIDs {
		group.Go(func() error {
			return s.addLayer(groupCtx, d, func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, i) })
		})
	}
	if err := group.Wait(); err != nil {
		return Image{}, err
	}
	return s.record(m, rawConfig, config, diffIDs, names, g)
}

// record writes the documents and then the names.
func (s *Store) record(m resolved, rawConfig []byte, config *v1.ConfigFile, diffIDs, names []string, g grant) (Image, error) {
	id := digestOf(rawConfig)
	now := time.Now()
	r := &record{ID: id, Digest: m.digest, Layers: diffIDs, Created: config.Created.Time, Loaded: now, LastUsed: now, Config: runConfig(config)}
	for _, l := range diffIDs {
		size, err := s.layerSize(l)
		if err != nil {
			return Image{}, err
		}
		r.Size += size
	}
	if err := s.writeBlobs(map[string][]byte{id: rawConfig, m.digest: m.raw}); err != nil {
		return Image{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.changeLocked(func() {
		if old := s.images[id]; old != nil {
			r.Tags, r.Digests, r.Pinned, r.Access = slices.Clone(old.Tags), slices.Clone(old.Digests), old.Pinned, old.Access
			if len(old.Access) == 0 { // of an older version, or without a name
				r.Access = loaded(slices.Concat(old.Tags, old.Digests)).addTo(nil, id)
			}
		}
		r.Access = g.addTo(r.Access, id)
		s.images[id] = r
		for _, n := range names {
			s.nameLocked(r, n)
		}
	})
	if err != nil {
		return Image{}, err
	}
	return r.image(), nil
}

func (s *Store) writeBlobs(blobs map[string][]byte) error {
	for digest, data := range blobs {
		if digest == "" {
			continue
		}
		if err := writeFile(s.path(blobsDir, hexOf(digest)), data); err != nil {
			return err
		}
	}
	return nil
}

// runConfig keeps of a config what is needed to run it.
func runConfig(c *v1.ConfigFile) Config {
	keys := func(m map[string]struct{}) []string {
		var list []string
		for k := range m {
			list = append(list, k)
		}
		slices.Sort(list)
		return list
	}
	return Config{
		Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, Env: c.Config.Env, WorkingDir: c.Config.WorkingDir, User: c.Config.User,
		StopSignal: c.Config.StopSignal, ExposedPorts: keys(c.Config.ExposedPorts), Volumes: keys(c.Config.Volumes), Labels: c.Config.Labels,
	}
}
