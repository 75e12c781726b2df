package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ListenFunc opens a TCP port on every address of the node.
type ListenFunc func(port uint16) (net.Listener, error)

// check is what a load balancer is told about one service.
type check struct {
	service   string
	endpoints int
}

// checkPorts serves the health-check node ports of services with externalTrafficPolicy Local. It is called by one
// goroutine; answers are given by others.
type checkPorts struct {
	listen ListenFunc
	log    *slog.Logger
	open   map[uint16]*checkPort
}

func newCheckPorts(listen ListenFunc, log *slog.Logger) *checkPorts {
	return &checkPorts{listen: listen, log: log, open: map[uint16]*checkPort{}}
}

// set makes exactly these ports open, with these answers. A port that cannot be opened is tried again next time.
func (c *checkPorts) set(want map[uint16]check) {
	if c.listen == nil {
		return
	}
	for port, p := range c.open {
		if _, ok := want[port]; !ok {
			p.server.Close()
			delete(c.open, port)
		}
	}
	for port, w := range want {
		p := c.open[port]
		if p == nil {
			l, err := c.listen(port)
			if err != nil {
				c.log.Error("health check node port not opened", "service", w.service, "port", port, "error", err)
				continue
			}
			p = newCheckPort()
			c.open[port] = p
			go p.server.Serve(l) // ends when set or close closes the server
		}
		p.tell(w)
	}
}

func (c *checkPorts) close() { c.set(nil) }

// checkPort is one open port.
type checkPort struct {
	server *http.Server
	mu     sync.Mutex
	now    check
}

func newCheckPort() *checkPort {
	p := &checkPort{}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	return p
}

func (p *checkPort) tell(c check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = c
}

// ServeHTTP answers 200 if this node has endpoints, 503 if not, with the body that kube-proxy gives.
func (p *checkPort) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	c := p.now
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", fmt.Sprint(c.endpoints))
	if c.endpoints == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	ns, name, _ := cutKey(c.service)
	json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": ns, "name": name},
		"localEndpoints":      c.endpoints,
		"serviceProxyHealthy": true,
	})
}

func cutKey(key string) (namespace, name string, ok bool) { return strings.Cut(key, "/") }
