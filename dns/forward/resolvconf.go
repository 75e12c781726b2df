package forward

import (
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// recheck is how often a resolver file is looked at: DHCP clients and VPNs rewrite it.
const recheck = 2 * time.Second

// FromResolvConf reads the name servers of a resolv.conf file, again when it has changed. A file that cannot be read means
// no servers; the last good content stays in effect.
func FromResolvConf(path string) func() []netip.AddrPort {
	var (
		mu      sync.Mutex
		looked  time.Time
		changed time.Time
		servers []netip.AddrPort
	)
	return func() []netip.AddrPort {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if now.Sub(looked) < recheck && !looked.IsZero() {
			return servers
		}
		looked = now
		info, err := os.Stat(path)
		if err != nil || info.ModTime().Equal(changed) {
			return servers
		}
		conf, err := dns.ClientConfigFromFile(path)
		if err != nil {
			return servers
		}
		changed, servers = info.ModTime(), nil
		for _, s := range conf.Servers {
			if a, err := netip.ParseAddr(s); err == nil {
				servers = append(servers, netip.AddrPortFrom(a.Unmap(), 53))
			}
		}
		return servers
	}
}

// Fixed always asks the same servers.
func Fixed(servers ...netip.AddrPort) func() []netip.AddrPort {
	return func() []netip.AddrPort { return servers }
}
