package volume

import (
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// prepareHostPath checks, and where the type says so makes, what a hostPath volume refers to.
func prepareHostPath(h *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if info, err := os.Stat(h.Path); err == nil {
			return wantType(h.Path, kind, info.IsDir(), "a directory")
		}
		return os.MkdirAll(h.Path, 0o755)
	case corev1.HostPathFileOrCreate:
		if info, err := os.Stat(h.Path); err == nil {
			return wantType(h.Path, kind, !info.IsDir(), "a file")
		}
		f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	info, err := os.Stat(h.Path)
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %s is not %s", h.Path, typeNoun(kind))
	}
	mode := info.Mode()
	ok := map[corev1.HostPathType]bool{
		corev1.HostPathDirectory: mode.IsDir(),
		corev1.HostPathFile:      mode.IsRegular(),
		corev1.HostPathSocket:    mode&os.ModeSocket != 0,
		corev1.HostPathCharDev:   mode&os.ModeCharDevice != 0,
		corev1.HostPathBlockDev:  mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0,
	}[kind]
	return wantType(h.Path, kind, ok, typeNoun(kind))
}

func wantType(path string, _ corev1.HostPathType, ok bool, noun string) error {
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, noun)
	}
	return nil
}

func typeNoun(kind corev1.HostPathType) string {
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return "a directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return "a file"
	case corev1.HostPathSocket:
		return "a socket file"
	case corev1.HostPathCharDev:
		return "a character device"
	case corev1.HostPathBlockDev:
		return "a block device"
	}
	return fmt.Sprintf("of type %q", kind)
}
