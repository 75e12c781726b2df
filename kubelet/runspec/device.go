package runspec

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// BlockDevice is a block volume in a container.
type BlockDevice struct {
	// Path is the device's in the container, Major and Minor its number.
	Path         string
	Major, Minor int64
	ReadOnly     bool
}

// FindBlockDevice makes a BlockDevice of a device of the host, or of a link to one, for a container's path.
func FindBlockDevice(host, path string, readOnly bool) (BlockDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return BlockDevice{}, &os.PathError{Op: "stat", Path: host, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return BlockDevice{}, fmt.Errorf("%s is not a block device", host)
	}
	return BlockDevice{Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), ReadOnly: readOnly}, nil
}

// add gives the device to the container: its node, and the right to it in the device control group.
func (d BlockDevice) add(spec *specs.Spec) {
	const block = "b"
	mode := os.FileMode(0o660)
	spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{Path: d.Path, Type: block, Major: d.Major, Minor: d.Minor, FileMode: &mode})
	access := "rwm"
	if d.ReadOnly {
		access = "rm"
	}
	spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices,
		specs.LinuxDeviceCgroup{Allow: true, Type: block, Major: &d.Major, Minor: &d.Minor, Access: access})
}
