// Package image is the node's image store: it pulls OCI and Docker images, imports archives, and mounts root file systems.
//
// Everything is addressed by content and lives below one directory:
//
//	blobs/sha256/<hex>       manifests and configs, as they came
//	layers/<diff ID hex>/fs  one unpacked layer each, shared by all images that have it
//	images.json              names → manifests; replaced by rename
//	containers/<id>          overlay upper and work directory, and the mount point "rootfs"
//	tmp/                     whatever is not finished; emptied by Open
//
// The contract:
//
//   - A name is recorded only after all that it needs is on disk and synced: a crash at any instant leaves the old state or the new.
//   - What is pulled is verified: blobs against their digests, layers against their diff IDs, sizes against the manifest.
//   - Unpacking writes nothing outside of the layer's directory, whatever the archive says.
//   - Pulls of the same thing at the same time are one download; a pull that was cut off resumes at the byte where it stopped.
//   - Methods may be called from any number of goroutines. One process owns a store at a time (a file lock says so).
//
// Example:
//
//	store, err := image.Open("/var/lib/bareboat/images", image.Options{})
//	img, err := store.Pull(ctx, "registry.example/app:1.2", image.PullOptions{})
//	rootfs, err := store.Mount(ctx, img.ID, containerID)
//	user, err := image.ResolveUser(rootfs, img.Config.User)
package image
