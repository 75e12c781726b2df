package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/server/servertest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// asProgram makes the test binary run the program itself, so that it can be killed.
const asProgram = "APISERVER_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// host is a folder with certificates and a free port.
type host struct {
	t    *testing.T
	dir  string
	pki  *servertest.PKI
	port int
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), pki: servertest.NewPKI(t)}
	h.pki.Files(t, h.dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	h.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	return h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) file(name string) string { return filepath.Join(h.dir, name) }

// command is the program with good flags, followed by others, which win.
func (h *host) command(args ...string) *exec.Cmd {
	all := append([]string{
		"--bind-address", "127.0.0.1", "--secure-port", strconv.Itoa(h.port), "--tls-cert-file", h.file("server.crt"), "--tls-private-key-file", h.file("server.key"),
		"--client-ca-file", h.file("ca.crt"), "--sqlite-file", h.file("state.db"), "--service-account-signing-key-file", h.file("sa.key"),
	}, args...)
	c := exec.Command(os.Args[0], all...)
	c.Env = append(os.Environ(), asProgram+"=1")
	return c
}

// start runs the program and returns when it answers.
func (h *host) start() *exec.Cmd {
	h.t.Helper()
	c := h.command()
	var log bytes.Buffer
	c.Stderr = &log
	check(h.t, c.Start())
	h.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := h.client().Get(ctx, &apiv1.GetRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "services", Namespace: "default", Name: "kubernetes"}})
		cancel()
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the server does not answer: %v\n%s", err, log.String())
		}
	}
}

func (h *host) client() apiv1.ResourceServiceClient {
	h.t.Helper()
	cfg := &tls.Config{RootCAs: h.pki.Pool, Certificates: []tls.Certificate{h.pki.Issue(h.t, "admin", "system:masters")}}
	conn, err := rpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", h.port), rpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	check(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	return apiv1.NewResourceServiceClient(conn)
}

func create(ctx context.Context, c apiv1.ResourceServiceClient, name string) error {
	raw, err := (&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}).Marshal()
	if err != nil {
		return err
	}
	_, err = c.Create(ctx, &apiv1.CreateRequest{
		Ref:    &apiv1.ResourceRef{Version: "v1", Resource: "configmaps", Namespace: "default"},
		Object: &anypb.Any{TypeUrl: "type.googleapis.com/k8s.io.api.core.v1.ConfigMap", Value: raw},
	})
	return err
}

// Killed with -9 while clients write, the server comes back with every write that it has acknowledged, and a watch goes on
// from the revision that it had reached: each object is seen once.
func TestKilledWhileWriting(t *testing.T) {
	const kills, writers, perKill = 3, 8, 200
	h := newHost(t)
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	seen := map[string]int{}
	revision := int64(0)
	for round := range kills {
		program := h.start()
		ctx, cancel := context.WithCancel(t.Context())
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			watch(ctx, t, h.client(), &revision, seen)
		}()
		var wg sync.WaitGroup
		for w := range writers {
			client := h.client()
			wg.Go(func() {
				for i := range perKill {
					name := fmt.Sprintf("r%d-w%d-%d", round, w, i)
					if create(ctx, client, name) != nil {
						return // the server is gone
					}
					mu.Lock()
					acknowledged[name] = true
					enough := len(acknowledged) == (round+1)*writers*perKill/4
					mu.Unlock()
					if enough {
						check(t, program.Process.Signal(syscall.SIGKILL))
					}
				}
			})
		}
		wg.Wait()
		program.Wait()
		<-watched
		cancel()
	}
	h.start()
	stored := names(t, h.client())
	for name := range acknowledged {
		if !stored[name] {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	check(t, create(ctx, h.client(), "end"))
	stored["end"] = true
	watch(ctx, t, h.client(), &revision, seen)
	for name := range stored {
		if name != "kube-root-ca.crt" && seen[name] != 1 {
			t.Errorf("%s was seen %d times", name, seen[name])
		}
	}
}

// watch counts additions from the revision on until the stream ends or the object "end" appears.
func watch(ctx context.Context, t *testing.T, c apiv1.ResourceServiceClient, revision *int64, seen map[string]int) {
	q := &apiv1.WatchRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "configmaps", Namespace: "default"}}
	if *revision > 0 {
		q.ResourceVersion = strconv.FormatInt(*revision, 10)
	}
	stream, err := c.Watch(ctx, q)
	if err != nil {
		t.Error(err)
		return
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			if code := status.Code(err); code != codes.Unavailable && code != codes.Canceled {
				t.Errorf("the watch from %s ended: %v", q.GetResourceVersion(), err)
			}
			return
		}
		end := false
		for _, e := range m.GetEvents() {
			var obj corev1.ConfigMap
			if err := obj.Unmarshal(e.GetObject().GetValue()); err != nil {
				t.Error(err)
				return
			}
			if e.GetType() == apiv1.Event_TYPE_ADDED {
				seen[obj.Name]++
			}
			end = end || obj.Name == "end"
		}
		if m.GetRevision() > 0 {
			*revision = m.GetRevision()
		}
		if end {
			return
		}
	}
}

func names(t *testing.T, c apiv1.ResourceServiceClient) map[string]bool {
	t.Helper()
	stream, err := c.List(t.Context(), &apiv1.ListRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "configmaps", Namespace: "default"}})
	check(t, err)
	out := map[string]bool{}
	for {
		m, err := stream.Recv()
		if err != nil {
			return out
		}
		for _, a := range m.GetItems() {
			var obj corev1.ConfigMap
			check(t, obj.Unmarshal(a.GetValue()))
			out[obj.Name] = true
		}
	}
}

// SIGTERM ends the server with exit code 0, without cutting a write off.
func TestGracefulStop(t *testing.T) {
	h := newHost(t)
	program := h.start()
	check(t, program.Process.Signal(syscall.SIGTERM))
	if err := program.Wait(); err != nil {
		t.Fatal(err)
	}
}

// What is wrong at the start is said in one sentence that names it and says what to do, and nothing is destroyed.
func TestStartErrors(t *testing.T) {
	h := newHost(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	corrupt := bytes.Repeat([]byte("not a database\n"), 4096)
	check(t, os.WriteFile(h.file("corrupt.db"), corrupt, 0o600))
	check(t, os.WriteFile(h.file("bad.crt"), []byte("no certificate"), 0o600))
	check(t, os.WriteFile(h.file("authentication.yaml"), []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{issuer: {url: 'http://x'}}]\n"), 0o600))
	for _, tc := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"bad issuers", []string{"--authentication-config", h.file("authentication.yaml")}, 1, []string{"--authentication-config", "jwt[0].issuer.url: Invalid value: \"http://x\": URL scheme must be https"}},
		{"issuers twice", []string{"--authentication-config", "x", "--oidc-issuer-url", "https://x", "--oidc-client-id", "a"}, 2, []string{"authentication-config file and oidc-* flags are mutually exclusive"}},
		{"port taken", []string{"--secure-port", port}, 1, []string{"port " + port + " is taken by apiserver.test (pid " + strconv.Itoa(os.Getpid()) + ")", "--secure-port"}},
		{"damaged database", []string{"--sqlite-file", h.file("corrupt.db")}, 1, []string{"corrupt.db", "database"}},
		{"no folder for the database", []string{"--sqlite-file", h.file("none/state.db")}, 1, []string{"none/state.db"}},
		{"unreadable certificate", []string{"--tls-cert-file", h.file("bad.crt")}, 1, []string{"bad.crt"}},
		{"missing certificate", []string{"--tls-cert-file", h.file("none.crt")}, 1, []string{"none.crt"}},
		{"no client authorities", []string{"--client-ca-file", ""}, 2, []string{"--client-ca-file is required"}},
		{"bad range", []string{"--service-node-port-range", "9-1"}, 2, []string{"--service-node-port-range"}},
		{"unknown flag", []string{"--colour", "red"}, 2, []string{"--colour"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			c := h.command(tc.args...)
			c.Stderr = &out
			c.Run()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			last := lines[len(lines)-1]
			if code := c.ProcessState.ExitCode(); code != tc.code || !strings.HasPrefix(last, "apiserver: ") {
				t.Errorf("exit %d: %s", code, out.String())
			}
			for _, s := range tc.says {
				if !strings.Contains(last, s) {
					t.Errorf("%q does not say %q", last, s)
				}
			}
		})
	}
	if after, err := os.ReadFile(h.file("corrupt.db")); err != nil || !bytes.Equal(after, corrupt) {
		t.Errorf("the damaged database was changed: %v", err)
	}
}
