package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// listen opens the port. If it is taken, the error says by what, as far as /proc tells.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		if holder := portHolder(port); holder != "" {
			return nil, fmt.Errorf("port %s is taken by %s: stop it, or choose another port with --secure-port", port, holder)
		}
		return nil, fmt.Errorf("port %s is taken by another process: stop it, or choose another port with --secure-port", port)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listening on %s needs root, or a port above 1023: choose one with --secure-port", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("this host does not have the address of %s: choose one that it has with --bind-address", address)
	}
	return nil, err
}

// portHolder names the process that listens on a TCP port of this network namespace, "name (pid n)", or returns "".
func portHolder(port string) string {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listeningInode(table, n); inode != "" {
			return socketHolder(inode)
		}
	}
	return ""
}

// listeningInode finds the socket that listens on the port in a table of proc(5).
func listeningInode(table string, port uint64) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer f.Close()
	const listening = "0A"
	want := fmt.Sprintf(":%04X", port)
	for s := bufio.NewScanner(f); s.Scan(); {
		if c := strings.Fields(s.Text()); len(c) > 9 && c[3] == listening && strings.HasSuffix(c[1], want) {
			return c[9]
		}
	}
	return ""
}

func socketHolder(inode string) string {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return "process " + pid
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
