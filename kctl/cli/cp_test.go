package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	"bareboat.dev/client/clienttest"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// thisHost is a container whose programs and files are this host's.
type thisHost struct {
	nodev1.UnimplementedNodeServiceServer
}

func (thisHost) Exec(stream grpc.BidiStreamingServer[nodev1.ExecRequest, nodev1.ExecResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	command := first.GetStart().GetCommand()
	c := exec.CommandContext(stream.Context(), command[0], command[1:]...)
	r, w := io.Pipe()
	c.Stdin = r
	if !first.GetStart().GetStdin() {
		w.Close()
	} else {
		go func() {
			for {
				m, err := stream.Recv()
				if err != nil || m.GetStdinClosed() {
					w.Close()
					return
				}
				_, _ = w.Write(m.GetStdin())
			}
		}()
	}
	out, _ := c.CombinedOutput()
	if err := stream.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Stdout{Stdout: out}}); err != nil {
		return err
	}
	return stream.Send(&nodev1.ExecResponse{Response: &nodev1.ExecResponse_Exit{Exit: &nodev1.Exit{Code: int32(c.ProcessState.ExitCode())}}})
}

// TestCopyTo shows where what is copied to a container goes: into a folder that is there, which stays, and otherwise under the new name.
func TestCopyTo(t *testing.T) {
	m := model{t: t, server: clienttest.NewServer(t, func(r grpc.ServiceRegistrar) { nodev1.RegisterNodeServiceServer(r, thisHost{}) })}
	local, remote := t.TempDir(), t.TempDir()
	motd := filepath.Join(local, "motd")
	if err := os.WriteFile(motd, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"empty", "full/below"} {
		if err := os.MkdirAll(filepath.Join(remote, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ from, to, want string }{
		{motd, "new", "new"},
		{motd, "new", "new"}, // a file is replaced
		{motd, "empty", "empty/motd"},
		{motd, "full/", "full/motd"},
		{local, "full", "full/" + filepath.Base(local) + "/motd"},
		{local, "folder", "folder/motd"},
	} {
		m.must("cp", tt.from, "web-0:"+remote+"/"+tt.to)
		if got, err := os.ReadFile(filepath.Join(remote, tt.want)); err != nil || string(got) != "hello" {
			t.Errorf("%s to %s: %q, %v", filepath.Base(tt.from), tt.to, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(remote, "full/below")); err != nil {
		t.Error(err)
	}
}
