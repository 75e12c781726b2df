package daemon

import (
	"fmt"
	"testing"
)

// Shows that pages which the loader has relocated (RELRO) are never given back: the file does not hold what they hold.
func TestRelocatedPagesStay(t *testing.T) {
	const smaps = `55d0c1a00000-55d0c1b00000 r--p 00000000 fe:00 42   /bin/daemon
Rss:                1024 kB
Anonymous:             0 kB
55d0c1b00000-55d0c1d00000 r-xp 00100000 fe:00 42   /bin/daemon
Anonymous:             0 kB
55d0c1d00000-55d0c1e00000 r--p 00300000 fe:00 42   /bin/daemon
Anonymous:            64 kB
AnonHugePages:         0 kB
55d0c1e00000-55d0c1f00000 rw-p 00400000 fe:00 42   /bin/daemon
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 43   /lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000300000 r--p 00000000 00:00 0
Anonymous:             0 kB
`
	want := "[55d0c1a00000-55d0c1b00000 55d0c1b00000-55d0c1d00000]"
	if got := fmt.Sprint(untouched([]byte(smaps), "/bin/daemon")); got != want {
		t.Errorf("untouched: %s, want %s", got, want)
	}
}
