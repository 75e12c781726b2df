// Package csi has volumes made by CSI drivers (Container Storage Interface 1.x), through their node service on this host.
//
// A driver registers as Kubernetes' drivers do (package plugins), with the type CSIPlugin. [Registry] keeps the drivers that are there, and
// tells the API of them: in the node's CSINode, in its topology labels and in the annotation with its id for each.
//
//	registry := csi.NewRegistry(csi.Config{Root: "/var/lib/kubelet", Node: "node-1", API: api, Log: log})
//	volumes := volume.New(volume.Config{…, Plugins: map[string]volume.Plugin{volume.PluginCSI: csi.NewPlugin(registry)}})
//	err := registry.Run(ctx)
//
// Paths are those that Kubernetes uses, since drivers and their operators know them:
//
//	<root>/plugins/kubernetes.io/csi/<driver>/<sha256 of the handle>/globalmount   what NodeStageVolume makes, once per node
//	<pod>/volumes/kubernetes.io~csi/<volume>/mount                                 what NodePublishVolume makes, once per pod
//	<pod>/volumes/kubernetes.io~csi/<volume>/vol_data.json                         what is needed to undo it, written first
//	<root>/plugins/kubernetes.io/csi/volumeDevices/{staging,publish}/<volume>      the same for block volumes
//
// Whatever is made is written down before it is made, so that a kubelet that starts again undoes it.
package csi
