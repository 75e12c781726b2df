package conntrack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bareboat.dev/proxy/conntrack"
	"bareboat.dev/proxy/internal/lab"
)

// Timeouts are set in this network namespace, twice without forgetting what they were, and put back; zero leaves the kernel's.
func TestTimeouts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	lab.New(t).Node.Do(func() {
		value := func(name string) string {
			data, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_" + name)
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(string(data))
		}
		was, kernels := value("close_wait"), value("established")
		for _, d := range []time.Duration{time.Hour, 2 * time.Hour} {
			if err := conntrack.SetTimeouts(dir, conntrack.Timeouts{TCPCloseWait: d}); err != nil {
				t.Error(err)
			}
		}
		if got := value("close_wait"); got != "7200" || value("established") != kernels {
			t.Errorf("close_wait is %s, established %s", got, value("established"))
		}
		for range 2 {
			if err := conntrack.RestoreTimeouts(dir); err != nil {
				t.Error(err)
			}
		}
		if got := value("close_wait"); got != was {
			t.Errorf("close_wait is left at %s, was %s", got, was)
		}
	})
	if _, err := os.Stat(dir); err == nil {
		t.Error("the state is left behind")
	}
}
