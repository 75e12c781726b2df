package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"bareboat.dev/kubelet/rmtree"
)

const (
	// zstdWindow bounds the memory that a zstd stream can make us use; the format's recommendation for decoders is 8 MiB, the
	// strongest level of the reference program (--ultra -22) needs 128.
	zstdWindow = 128 << 20
	layerFS    = "fs"
	layerMeta  = "layer.json"
)

// layerInfo is what is remembered of an unpacked layer.
type layerInfo struct {
	Size int64 `json:"size"`
}

func (s *Store) layerPath(diffID string) string { return s.path(layersDir, hexOf(diffID)) }

func (s *Store) hasLayer(diffID string) bool {
	_, err := os.Stat(filepath.Join(s.layerPath(diffID), layerMeta))
	return err == nil
}

func (s *Store) layerSize(diffID string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(s.layerPath(diffID), layerMeta))
	if err != nil {
		return 0, err
	}
	var info layerInfo
	err = json.Unmarshal(data, &info)
	return info.Size, err
}

// hold keeps layers and blobs from being swept until the returned function is called.
func (s *Store) hold(digests []string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range digests {
		s.held[d]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range digests {
			if s.held[d]--; s.held[d] == 0 {
				delete(s.held, d)
			}
		}
	}
}

// addLayer unpacks an archive, compressed or not, as the layer diffID, once it has been verified to be that. Adding what is there, or what
// another goroutine is just adding, costs nothing; open is then not called.
func (s *Store) addLayer(ctx context.Context, diffID string, open func(context.Context) (io.ReadCloser, error)) error {
	return s.flights.do(ctx, diffID, func() error {
		if s.hasLayer(diffID) {
			return nil
		}
		r, err := open(ctx)
		if err != nil {
			return err
		}
		return errors.Join(s.unpackLayer(ctx, diffID, r), r.Close())
	})
}

// unpackLayer makes the layer in tmp and moves it into place when it is whole, verified and on disk.
func (s *Store) unpackLayer(ctx context.Context, diffID string, archive io.Reader) (err error) {
	work, err := os.MkdirTemp(s.path(tmpDir), "layer-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("layer %s: %w", diffID, err), rmtree.Remove(work))
		}
	}()
	root := filepath.Join(work, layerFS)
	if err := errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o755)); err != nil {
		return err
	}
	plain, closePlain, err := decompress(archive)
	if err != nil {
		return err
	}
	defer closePlain()
	hash := sha256.New()
	// The archive may hold more than its files' content: a block of header and one of padding for each, and one of each and a few KiB for
	// what does not fit into the header.
	const perFile = 8 << 10
	bounded := &boundedReader{ctx: ctx, r: plain, left: s.options.MaxLayerSize + s.options.MaxLayerFiles*perFile}
	hashed := io.TeeReader(bounded, hash)
	size, err := unpack(ctx, hashed, root, s.options.MaxLayerSize, s.options.MaxLayerFiles)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, hashed); err != nil { // the end of the archive, which counts in the digest
		return corrupt(err)
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != diffID {
		return fmt.Errorf("%w: it unpacks to %s", ErrCorrupt, got)
	}
	return s.commitLayer(work, diffID, layerInfo{Size: size})
}

func (s *Store) commitLayer(work, diffID string, info layerInfo) error {
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, layerMeta), data, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(work, 0o711); err != nil {
		return err
	}
	if err := syncFS(work); err != nil {
		return err
	}
	if err := os.Rename(work, s.layerPath(diffID)); err != nil {
		return err
	}
	return syncDir(s.path(layersDir))
}

// boundedReader fails, rather than ends, when too much comes or nobody wants it any more.
type boundedReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: the archive has no end", ErrTooLarge)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// decompress looks at what the data is, whatever its media type says.
func decompress(r io.Reader) (plain io.Reader, closer func(), err error) {
	br := bufio.NewReaderSize(r, 128<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return corruptReader{z}, func() { _ = z.Close() }, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return corruptReader{z}, z.Close, nil
	default:
		return br, func() {}, nil
	}
}

// corruptReader marks the decompressors' complaints as what they mean.
type corruptReader struct{ r io.Reader }

func (c corruptReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for _, bad := range []error{gzip.ErrHeader, gzip.ErrChecksum, io.ErrUnexpectedEOF, zstd.ErrCRCMismatch, zstd.ErrWindowSizeExceeded, zstd.ErrReservedBlockType} {
		if errors.Is(err, bad) {
			return n, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return n, err
}

// flights runs one function per key at a time: those who come meanwhile wait, and then run theirs, which finds the work done.
type flights struct {
	mu   sync.Mutex
	busy map[string]chan struct{}
}

func (f *flights) do(ctx context.Context, key string, fn func() error) error {
	for {
		f.mu.Lock()
		if f.busy == nil {
			f.busy = map[string]chan struct{}{}
		}
		other, taken := f.busy[key]
		if !taken {
			done := make(chan struct{})
			f.busy[key] = done
			f.mu.Unlock()
			defer func() {
				f.mu.Lock()
				delete(f.busy, key)
				f.mu.Unlock()
				close(done)
			}()
			return fn()
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
