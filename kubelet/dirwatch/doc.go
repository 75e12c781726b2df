// Package dirwatch tells when a directory has changed: by inotify(7) if the kernel lets it, and by looking from time to time if not.
//
// A host has few inotify instances (fs.inotify.max_user_instances, 128 for each user by default), which other programs may have used
// up. That must not keep a kubelet from starting: a watcher then looks at its directory every second, the source says so once, naming
// the setting to raise, and inotify is used again as soon as there is an instance.
//
//	w, err := dirwatch.New(log).Open("/etc/cni/net.d", dirwatch.Written|dirwatch.Names)
//	defer w.Close()
//	for range w.Changed() {
//		… // read the directory: something in it may have changed
//	}
//	… // the directory is gone
//
// Changes are told coalesced and without saying what has changed. Nothing is missed: whatever changes after Open, or after a change
// was received, is told by another one.
package dirwatch
