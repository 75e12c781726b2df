package nftables

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// writer is the socket for transactions. It is opened by the first one, for the network namespace of the calling thread,
// and kept: to close one that has changed rules waits until the kernel has done away with everything replaced, some ten
// milliseconds. After an error a new one is used. It belongs to one goroutine at a time.
type writer struct{ conn *netlink.Conn }

func (w *writer) commit(t *transaction) error {
	if w.conn == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		if err := conn.SetWriteBuffer(sendBuffer); err != nil {
			conn.Close()
			return err
		}
		w.conn = conn
	}
	err := t.commit(w.conn)
	if err != nil {
		w.close()
	}
	return err
}

func (w *writer) close() error {
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close()
	w.conn = nil
	return err
}
