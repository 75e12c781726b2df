package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/integration/host"
	"bareboat.dev/kctl/pki"
)

// startTimeout bounds how long a server may take to come up.
const startTimeout = 30 * time.Second

// server is an API server on loopback with certificates of its own.
type server struct {
	dir    string
	port   int
	config *client.Config
	pid    int
	// store is the engine's name.
	store string
	// certFile and keyFile are what the server shows.
	certFile, keyFile string
}

// freePort asks the kernel for a port that nobody uses now.
func freePort(e *Env) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// startServer starts the API server on SQLite, or on etcd if endpoints are given, with more flags if it needs any.
func startServer(e *Env, etcd string, more ...string) *server {
	dir, err := os.MkdirTemp("", "bench-apiserver-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { os.RemoveAll(dir) })
	store := pki.Store{Dir: dir}
	h := pki.Host{NodeName: "bench", Hostname: "bench", ServiceIP: net.IPv4(10, 96, 0, 1), ClusterDomain: "cluster.local"}
	if _, err := store.Ensure(pki.ControlPlane(h), time.Now()); err != nil {
		e.Fatal(err)
	}
	s := &server{dir: dir, port: freePort(e), certFile: store.CertFile(pki.APIServer), keyFile: store.KeyFile(pki.APIServer)}
	args := []string{
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + strconv.Itoa(s.port), "--log-level=error",
		"--tls-cert-file=" + store.CertFile(pki.APIServer), "--tls-private-key-file=" + store.KeyFile(pki.APIServer), "--client-ca-file=" + store.CertFile("ca"),
	}
	s.store = "sqlite"
	if etcd != "" {
		s.store = "etcd"
		args = append(args, "--etcd-servers="+etcd)
	} else {
		args = append(args, "--sqlite-file="+filepath.Join(dir, "state.db"))
	}
	s.pid = background(e, filepath.Join(host.Root(), "build/bin/apiserver"), append(args, more...)...)
	s.config = &client.Config{
		Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", s.port)}, CAFile: store.CertFile("ca"),
		CertFile: store.CertFile(pki.Admin), KeyFile: store.KeyFile(pki.Admin), UserAgent: "bench",
	}
	c := s.dial(e)
	waitFor(e, "the API server", func(ctx context.Context) error {
		_, err := client.Of(c, client.Namespaces()).Get(ctx, "", "default")
		return err
	})
	// What the controllers would make; pods are refused without it.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}
	if _, err := client.Of(c, client.ServiceAccounts()).Create(context.Background(), account); err != nil {
		e.Fatal(err)
	}
	return s
}

// dial makes a client that ends with the measurement.
func (s *server) dial(e *Env) *client.Client { return s.dialAs(e, pki.Admin, s.config.UserAgent) }

// dialAs is dial with the certificate and the user agent of another.
func (s *server) dialAs(e *Env, name, agent string) *client.Client {
	config, store := *s.config, pki.Store{Dir: s.dir}
	config.CertFile, config.KeyFile, config.UserAgent = store.CertFile(name), store.KeyFile(name), agent
	c, err := client.Dial(&config)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { c.Close() })
	return c
}

// address is where the server listens.
func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// profile writes the server's CPU profile of the time d into a file, if the command asks for profiles.
func (s *server) profile(e *Env, name string, d time.Duration) {
	if e.Profiles == "" {
		return
	}
	transport := &http.Transport{TLSClientConfig: s.tls(e)}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://%s/debug/pprof/profile?seconds=%d", s.address(), int(d.Seconds())))
	if err != nil {
		fmt.Fprintln(e.Log, "profile:", err)
		return
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(e.Profiles, name+".pprof"))
	if err == nil {
		_, err = io.Copy(f, resp.Body)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintln(e.Log, "profile:", err)
	}
}

// tls is the administrator's TLS configuration.
func (s *server) tls(e *Env) *tls.Config {
	pair, err := tls.LoadX509KeyPair(s.config.CertFile, s.config.KeyFile)
	if err != nil {
		e.Fatal(err)
	}
	ca, err := os.ReadFile(s.config.CAFile)
	if err != nil {
		e.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair}}
}

// generator makes a load generator that offers the given protocols, by which the server knows the door.
func (s *server) generator(e *Env, protocols ...string) *generator {
	config := s.tls(e)
	config.NextProtos = protocols
	return dialGenerator(e, s.address(), config)
}

// etcdServer is an etcd member.
type etcdServer struct {
	url, address string
	pid          int
}

// startEtcd starts one etcd member on loopback.
func startEtcd(e *Env) *etcdServer {
	dir, err := os.MkdirTemp("", "bench-etcd-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { os.RemoveAll(dir) })
	address := fmt.Sprintf("127.0.0.1:%d", freePort(e))
	url, peer := "http://"+address, fmt.Sprintf("http://127.0.0.1:%d", freePort(e))
	pid := background(e, "etcd", "--data-dir="+dir, "--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--log-level=error")
	c := dialEtcd(e, url)
	waitFor(e, "etcd", func(ctx context.Context) error {
		_, err := c.Get(ctx, "x")
		return err
	})
	return &etcdServer{url, address, pid}
}

func dialEtcd(e *Env, url string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: startTimeout})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { c.Close() })
	return c
}

// background starts a program that is killed when the measurement ends.
func background(e *Env, name string, args ...string) int {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func waitFor(e *Env, what string, check func(context.Context) error) {
	deadline := time.Now().Add(startTimeout)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := check(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			e.Fatalf("%s did not come up: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
