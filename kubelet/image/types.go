package image

import (
	"errors"
	"time"
)

// The errors of this package, to be matched with errors.Is. Their texts are sentences for the user.
var (
	// ErrInvalidName: the reference cannot be parsed (InvalidImageName).
	ErrInvalidName = errors.New("couldn't parse image name")
	// ErrNotFound: no such image here, or in the registry.
	ErrNotFound = errors.New("image not found")
	// ErrUnauthorized: the registry wants (other) credentials.
	ErrUnauthorized = errors.New("access to the image is denied")
	// ErrUnavailable: the registry cannot be reached (RegistryUnavailable).
	ErrUnavailable = errors.New("registry unavailable")
	// ErrNoPlatform: the image is not made for this machine.
	ErrNoPlatform = errors.New("no image for this platform")
	// ErrCorrupt: content does not have the digest or size that was promised.
	ErrCorrupt = errors.New("image content is corrupt")
	// ErrUnsafe: a layer tries to write outside of its root, or is of a kind that no image has reason to be.
	ErrUnsafe = errors.New("image layer is unsafe")
	// ErrTooLarge: a layer unpacks to more than Options.MaxLayerSize or MaxLayerFiles.
	ErrTooLarge = errors.New("image layer is too large")
	// ErrInUse: the image is mounted for a container, or the store is open in another process.
	ErrInUse = errors.New("in use")
	// ErrNoUser: the image has no user or group of that name.
	ErrNoUser = errors.New("no such user in the image")
)

// Options are the store's settings; the zero value is right for a node.
type Options struct {
	// MaxLayerSize and MaxLayerFiles bound what one layer may unpack to; 0 means 32 GiB and 2,000,000 files.
	MaxLayerSize  int64
	MaxLayerFiles int64
	// ParallelDownloads bounds the layers downloaded at the same time, over all pulls; 0 means 3.
	ParallelDownloads int
	// Patience is how long a registry may send nothing in the middle of an answer; 0 means 30 s.
	Patience time.Duration
	// Platform is os/arch[/variant]; "" is this machine's.
	Platform string
}

// Auth is a registry credential, of which one form is set: user and password, an identity (refresh) token, or a bearer token.
type Auth struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
	// Source names where it is from, such as a Secret with its uid, which stays when the credential itself changes. Optional.
	Source string
}

// PullOptions say how to pull.
type PullOptions struct {
	// Auth are the credentials to try, in order; anonymous access is tried last. Those from pull secrets that match the registry.
	Auth []Auth
	// Mirrors maps a registry host (as in the reference, docker.io for short names) to base addresses tried before it, such as
	// "https://mirror.example" or "http://127.0.0.1:5000/path". "_default" applies to all registries without an entry.
	Mirrors map[string][]string
	// Insecure lists registry hosts spoken to over plain HTTP, or over TLS with any certificate. Loopback needs no entry.
	Insecure []string
	// Progress, if set, is called as bytes arrive, from several goroutines.
	Progress func(Progress)
}

// Progress says how far one layer of a pull is. Total is its compressed size.
type Progress struct {
	Layer       string
	Done, Total int64
}

// Image is one image in the store.
type Image struct {
	// ID is the digest of the config, "sha256:…": what ContainerStatus.imageID identifies locally.
	ID string
	// Digest is that of the manifest for this platform.
	Digest string
	// RepoTags are names with tags ("registry.example/app:1.2"), RepoDigests names with digests ("registry.example/app@sha256:…",
	// of the index if it was pulled through one); both in full form ("docker.io/library/busybox:1"), sorted.
	RepoTags    []string
	RepoDigests []string
	// Size is that of the unpacked layers, in bytes.
	Size int64
	// Created is when its author made it, Loaded when it came to this node: pulled or imported, the last time that its name did.
	Created, Loaded time.Time
	Config          Config
	// LastUsed is when the image was last mounted, or pulled.
	LastUsed time.Time
	// Pinned images are never removed by GC.
	Pinned bool
}

// Config is how the image's author wants it to be run.
type Config struct {
	Entrypoint, Cmd, Env []string
	WorkingDir           string
	// User is "", "name", "uid", "name:group", "uid:gid" and so on: see [ResolveUser].
	User         string
	StopSignal   string
	ExposedPorts []string
	Volumes      []string
	Labels       map[string]string
}

// GCPolicy says when and how much [Store.GC] removes. Percentages are of the file system that holds the store.
type GCPolicy struct {
	// HighPercent starts collection, LowPercent is what it aims for; the kubelet's defaults are 85 and 80.
	HighPercent, LowPercent int
	// MinAge keeps images that were used more recently; the kubelet's default is 2 minutes. MaxAge, unless 0, removes any that was not
	// used for so long, however full the disk is.
	MinAge, MaxAge time.Duration
	// InUse says by image ID what running pods need. Images with mounts are always kept.
	InUse func(id string) bool
}

// GCResult is what was removed and what the disk looks like after it.
type GCResult struct {
	Removed     []string
	FreedBytes  int64
	UsedPercent int
	// Short says that LowPercent was not reached although all that could be removed was.
	Short bool
}

// User is who a container's first process is, in numbers.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups in the image's /etc/group, without GID.
	Groups []uint32
	// Name and Home are from the image's /etc/passwd; empty if it does not know the UID.
	Name, Home string
}
