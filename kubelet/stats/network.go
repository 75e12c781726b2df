package stats

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// link is what an interface has carried.
type link struct {
	name                                    string
	rxBytes, rxPackets, rxErrors, rxDropped uint64
	txBytes, txPackets, txErrors, txDropped uint64
}

// readLinks reads the interfaces that a process sees, without loopback.
func readLinks(pid int) []link {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseLinks(f)
}

// parseLinks reads the form of /proc/net/dev (proc(5)): two lines of headings, then "name:" and sixteen numbers.
func parseLinks(r io.Reader) []link {
	const columns, transmit = 16, 8
	var list []link
	for s := bufio.NewScanner(r); s.Scan(); {
		name, numbers, ok := strings.Cut(s.Text(), ":")
		fields := strings.Fields(numbers)
		name = strings.TrimSpace(name)
		if !ok || len(fields) < columns || name == "lo" {
			continue
		}
		var n [columns]uint64
		for i := range n {
			n[i], _ = strconv.ParseUint(fields[i], 10, 64)
		}
		list = append(list, link{name: name, rxBytes: n[0], rxPackets: n[1], rxErrors: n[2], rxDropped: n[3],
			txBytes: n[transmit], txPackets: n[transmit+1], txErrors: n[transmit+2], txDropped: n[transmit+3]})
	}
	return list
}
