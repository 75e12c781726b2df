package webhook_test

import (
	"net"
	"net/http"
	"sync/atomic"
)

// count counts new connections.
func count(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
}
