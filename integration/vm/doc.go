// Package vm boots a virtual machine with a Debian kernel, whose control groups are v2 alone, and runs tests of this repository in it:
// hosts for development often still have v1, and namespaces cannot change that.
//
//	m := vm.Machine{Disk: disk, Kernel: kernel, Initramfs: initramfs}
//	results, err := m.Run(ctx)
//
// The machine is QEMU's, emulated in software unless [KVMVariable] says otherwise. It has one disk (ext4, made by mkfs.ext4 from a folder), no
// network card, and two serial ports: the console, and the one on which its first process (command guest) reports. Nothing of the
// host is shared with it. Its files are Debian packages, unpacked, and binaries of this repository.
//
// The test is behind the build tag "vm", since it takes minutes under emulation: make test-vm.
package vm
