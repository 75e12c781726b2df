package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"bareboat.dev/integration/vm/plan"
)

// WriteInitramfs writes an initial RAM disk: the first process, and the modules that its disk needs, in their order.
//
// Its format is cpio's "newc", as the kernel's initramfs-format document describes it.
func WriteInitramfs(path, init string, modules []string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	c := &cpio{w: bufio.NewWriter(f)}
	for _, dir := range []string{"dev", "root", plan.Modules[1:]} {
		c.entry(dir, modeDir|0o755, nil)
	}
	if err := c.file("init", init, 0o755); err != nil {
		return err
	}
	for i, m := range modules {
		if err := c.file(fmt.Sprintf("%s/%02d-%s", plan.Modules[1:], i, filepath.Base(m)), m, 0o644); err != nil {
			return err
		}
	}
	c.entry("TRAILER!!!", 0, nil)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}

// File types in a cpio entry's mode (cpio(5)).
const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

type cpio struct {
	w     *bufio.Writer
	inode int
	err   error
}

func (c *cpio) file(name, from string, mode int) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	c.entry(name, modeFile|mode, data)
	return nil
}

// entry writes a header of thirteen numbers in hexadecimal, the name and the data, each padded to four bytes.
func (c *cpio) entry(name string, mode int, data []byte) {
	c.inode++
	const links, none = 1, 0
	header := "070701"
	for _, n := range []int{c.inode, mode, none, none, links, none, len(data), none, none, none, none, len(name) + 1, none} {
		header += fmt.Sprintf("%08x", n)
	}
	c.write(header+name+"\x00", len(header)+len(name)+1)
	c.write(string(data), len(data))
}

func (c *cpio) write(s string, n int) {
	if c.err != nil {
		return
	}
	const align = 4
	if _, c.err = io.WriteString(c.w, s); c.err == nil {
		_, c.err = c.w.Write(make([]byte, (align-n%align)%align))
	}
}
