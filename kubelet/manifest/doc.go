// Package manifest reads static pods: those that a node runs because a file in a directory says so, whether or not there is
// an API server (https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/).
//
// [Parse] turns a file into a pod; it is pure. [Watch] follows a directory and hands over all of its pods whenever one of
// its files has been written, renamed or removed.
//
//	err := manifest.Watch(ctx, watches, "/etc/bareboat/manifests", "node1", func(pods []*corev1.Pod, bad []manifest.Problem) { … })
//
// The contract:
//
//   - A file holds one v1 Pod in YAML or JSON. Unknown and duplicate fields are errors: nobody validates it later.
//   - Files whose names begin with a dot, and folders, are not looked at.
//   - A pod's UID follows from the node's name and what the file says: a file written again with the same content, or
//     renamed, is the same pod; one with other content is another pod in its place.
//   - A file that turns bad is reported, once for each content, and its last good pod stays: a slip of the pen ends nothing.
//     Only the file's removal does, or another kubelet that starts and finds it bad.
package manifest
