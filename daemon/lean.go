package daemon

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long after a daemon is ready its start counts as over: mirrors have their snapshots by then.
const settle = 5 * time.Second

// forgetStart gives back the memory that only the start needed: heap that decoding the first snapshots took, and the pages of the
// program itself that package initialization touched, which is most of what an idle daemon has mapped. The kernel brings a page of
// the program back from its cache when it is used again (madvise(2), MADV_DONTNEED on a file mapping).
func forgetStart() {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, addresses := range untouched(smaps, exe) {
		release(addresses)
	}
}

// untouched lists the address ranges of exe's read-only mappings that hold nothing but the file. A page that was written to before
// it was made read-only, as the loader does with relocated pointers (RELRO, in every binary that links C), is the only copy of
// what it holds: dropping it would put the file's unrelocated bytes, null pointers mostly, in its place. Such pages are counted as
// Anonymous (proc(5), smaps).
func untouched(smaps []byte, exe string) []string {
	var out []string
	candidate := ""
	for sc := bufio.NewScanner(bytes.NewReader(smaps)); sc.Scan(); {
		// A mapping's first line: address range, permissions, offset, device, inode, path. Then "Name: value kB" lines.
		f := strings.Fields(sc.Text())
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			candidate = ""
			if len(f) == 6 && f[5] == exe && !strings.Contains(f[1], "w") {
				candidate = f[0]
			}
		case len(f) >= 2 && f[0] == "Anonymous:" && f[1] == "0" && candidate != "":
			out = append(out, candidate)
		}
	}
	return out
}

// release drops one mapping's pages; a failure only means that they stay. Without huge pages, a byte that is used brings back its
// neighbourhood and not two mebibytes.
func release(addresses string) {
	from, to, _ := strings.Cut(addresses, "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	if err1 == nil && err2 == nil {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_NOHUGEPAGE)
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
	}
}
