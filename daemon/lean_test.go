package daemon

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestForgetStart shows that a process runs on after its program's pages have been given back, with fewer of them mapped.
func TestForgetStart(t *testing.T) {
	before := mappedFile(t)
	forgetStart()
	if after := mappedFile(t); after >= before {
		t.Errorf("%d KiB of files were mapped before and %d KiB after", before, after)
	}
}

// mappedFile is how much of this process's memory is pages of files, in KiB (proc(5), status, RssFile).
func mappedFile(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
