// Package agent runs a node's pods: it mirrors those bound to the node, steps each pod's state machine (package pod) when
// something happens to it, carries out the actions that the machine asks for, and reports what it says.
//
// Nothing here polls. A pod is stepped when its object changes, when an action ends, when its podshim reports an exit, when
// a probe reaches a verdict, when an object that it refers to changes, and at the time that its last step named.
//
// What a kubelet must know after a restart is below the pod's directory (the pod as last known, and a record per
// container) and with its podshim (states and exits). A kubelet that starts again adopts what runs: no container is
// restarted because its kubelet was. Pods that the API no longer has are ended only once the mirror is complete; while the
// API cannot be reached, everything goes on as it was.
package agent
