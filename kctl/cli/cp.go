package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

func (s *session) cpCommand() *cobra.Command {
	var container string
	c := &cobra.Command{
		Use:   "cp SOURCE DESTINATION",
		Short: "Copy files to and from containers",
		Long: `Copy files and folders to and from containers; one side is [NAMESPACE/]POD:PATH. What is copied to a folder that is there goes into it.
The container must have tar. Of a folder that is copied from a container only files and folders are written, and only below the
destination.`,
		Example: "  kctl cp motd web-0:/etc/motd\n  kctl cp default/web-0:/var/log ./log -c web",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := s.connect(); err != nil {
				return err
			}
			from, to := s.place(args[0]), s.place(args[1])
			switch {
			case from.pod != "" && to.pod != "" || from.pod == "" && to.pod == "":
				return errors.New("one of source and destination must be [NAMESPACE/]POD:PATH, and one a local path")
			case from.path == "" || to.path == "":
				return errors.New("a path is empty; name the file or folder behind the colon")
			case from.pod != "":
				return s.copyFrom(cmd.Context(), from, container, to.path)
			}
			return s.copyTo(cmd.Context(), from.path, to, container)
		},
	}
	c.Flags().StringVarP(&container, "container", "c", "", "`name` of the container; default the pod's first")
	return c
}

// place is one side of a copy; pod is empty for a local path.
type place struct{ namespace, pod, path string }

func (s *session) place(arg string) place {
	pod, p, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(pod, ".") || strings.HasPrefix(pod, "/") {
		return place{path: arg}
	}
	namespace, name, ok := strings.Cut(pod, "/")
	if !ok {
		namespace, name = s.namespace, pod
	}
	return place{namespace, name, p}
}

// isFolder asks the container whether a path of it is a folder. One that has no program to tell goes by the path's last character.
func (s *session) isFolder(ctx context.Context, p place, container string) (bool, error) {
	err := s.runIn(ctx, p, container, nil, io.Discard, io.Discard, "test", "-d", p.path)
	var ended *exitError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &ended) || strings.Contains(err.Error(), "executable file not found"):
		return strings.HasSuffix(p.path, "/"), nil
	}
	return false, err
}

// runIn runs a command in the container with streams of its own.
func (s *session) runIn(ctx context.Context, p place, container string, in io.Reader, out, errOut io.Writer, command ...string) error {
	sub := &session{in: in, out: out, err: errOut, server: s.server, config: s.config}
	return sub.exec(ctx, &nodev1.ContainerRef{Namespace: p.namespace, Pod: p.pod, Container: container}, command, in != nil, false)
}

// tarIn runs tar in the container.
func (s *session) tarIn(ctx context.Context, p place, container string, in io.Reader, out io.Writer, args ...string) error {
	err := s.runIn(ctx, p, container, in, out, s.err, append([]string{"tar"}, args...)...)
	if err != nil && strings.Contains(err.Error(), "executable file not found") {
		return fmt.Errorf("pod %s has no tar, which cp needs; use `kctl exec` with another program", p.pod)
	}
	return err
}

func (s *session) copyTo(ctx context.Context, local string, to place, container string) error {
	if _, err := os.Lstat(local); err != nil {
		return err
	}
	into, err := s.isFolder(ctx, to, container)
	if err != nil {
		return err
	}
	target := path.Clean(to.path)
	if into {
		name, err := filepath.Abs(local) // "." has a name, too
		if err != nil {
			return err
		}
		target = path.Join(target, filepath.Base(name))
	}
	r, w := io.Pipe()
	defer r.Close()
	written := make(chan error, 1)
	go func() {
		err := writeTar(w, local, path.Base(target))
		w.CloseWithError(err)
		written <- err
	}()
	err = s.tarIn(ctx, to, container, r, s.out, "-xmf", "-", "-C", path.Dir(target))
	r.CloseWithError(io.ErrClosedPipe)
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return werr
	}
	return err
}

// writeTar packs a file or folder; name is what it is called in the archive.
func writeTar(w io.Writer, local, name string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(local, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(p); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return nil // sockets and the like have no place in an archive
		}
		below, err := filepath.Rel(local, p)
		if err != nil {
			return err
		}
		h.Name = path.Join(name, filepath.ToSlash(below))
		if err := tw.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	})
	return errors.Join(err, tw.Close())
}

func (s *session) copyFrom(ctx context.Context, from place, container, local string) error {
	source := path.Clean(from.path)
	if info, err := os.Stat(local); err == nil && info.IsDir() {
		local = filepath.Join(local, path.Base(source))
	}
	r, w := io.Pipe()
	read := make(chan error, 1)
	go func() {
		err := readTar(r, path.Base(source), local, func(what string) { fmt.Fprintf(s.err, "warning: skipping %s\n", what) })
		if err == nil {
			_, err = io.Copy(io.Discard, r) // padding behind the archive
		}
		r.CloseWithError(err)
		read <- err
	}()
	err := s.tarIn(ctx, from, container, nil, w, "-cf", "-", "-C", path.Dir(source), path.Base(source))
	w.CloseWithError(err)
	if rerr := <-read; err == nil {
		err = rerr
	}
	return err
}

// readTar unpacks an archive whose root is called name to local. A container is not trusted: os.Root keeps every entry below the
// destination, whatever its name, and links are left out, since they could point anywhere.
func readTar(r io.Reader, name, local string, skip func(string)) error {
	if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(local))
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		below, ok := strings.CutPrefix(path.Clean(h.Name)+"/", name+"/")
		if !ok {
			skip(fmt.Sprintf("%q, which is outside of what was asked for", h.Name))
			continue
		}
		target := filepath.Join(filepath.Base(local), filepath.FromSlash(strings.TrimSuffix(below, "/")))
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(target, 0o755)
		case tar.TypeReg:
			err = extract(root, target, fs.FileMode(h.Mode).Perm(), tr)
		default:
			skip(fmt.Sprintf("%q, which is neither a file nor a folder", h.Name))
		}
		if err != nil {
			return err
		}
	}
}

func extract(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
