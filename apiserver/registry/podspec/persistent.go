package podspec

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// DefaultPersistentSource fills the source of a PersistentVolume.
func DefaultPersistentSource(src *corev1.PersistentVolumeSource) {
	switch {
	case src.HostPath != nil:
		setIfNil(&src.HostPath.Type, corev1.HostPathUnset)
	case src.ISCSI != nil:
		setIfEmpty(&src.ISCSI.ISCSIInterface, "default")
	case src.RBD != nil:
		setIfEmpty(&src.RBD.RBDPool, "rbd")
		setIfEmpty(&src.RBD.RadosUser, "admin")
		setIfEmpty(&src.RBD.Keyring, "/etc/ceph/keyring")
	case src.AzureDisk != nil:
		defaultStorageVolume(&corev1.VolumeSource{AzureDisk: src.AzureDisk})
	case src.ScaleIO != nil:
		setIfEmpty(&src.ScaleIO.StorageMode, "ThinProvisioned")
		setIfEmpty(&src.ScaleIO.FSType, "xfs")
	}
}

// DefaultResources rounds amounts up to thousandths.
func DefaultResources(list corev1.ResourceList) { roundUp(list) }

// ValidatePersistentSource checks the source of the PersistentVolume with that name at the path of its spec.
func ValidatePersistentSource(e *check.Errors, src *corev1.PersistentVolumeSource, name string, pinned bool, at *field.Path) {
	one := &oneSource{Errors: e, at: at}
	one.take(src.HostPath != nil, "hostPath", func(at *field.Path) { ValidateHostPath(e, src.HostPath, at) })
	one.take(src.GCEPersistentDisk != nil, "gcePersistentDisk", func(*field.Path) {
		ValidateGCEDisk(e, src.GCEPersistentDisk, at.Child("persistentDisk"))
	})
	one.take(src.AWSElasticBlockStore != nil, "awsElasticBlockStore", func(at *field.Path) {
		ValidateAWSVolume(e, src.AWSElasticBlockStore, at)
	})
	one.take(src.Glusterfs != nil, "glusterfs", func(at *field.Path) {
		e.Present(at.Child("endpoints"), src.Glusterfs.EndpointsName)
		e.Present(at.Child("path"), src.Glusterfs.Path)
		switch namespace := src.Glusterfs.EndpointsNamespace; {
		case namespace == nil:
		case *namespace == "":
			e.Invalid(at.Child("endpointsNamespace"), *namespace, "if the endpointnamespace is set, it must be a valid namespace name")
		default:
			e.Name(at.Child("endpointsNamespace"), *namespace, apivalidation.ValidateNamespaceName)
		}
	})
	one.take(src.Flocker != nil, "flocker", func(at *field.Path) { ValidateFlocker(e, src.Flocker, at) })
	one.take(src.NFS != nil, "nfs", func(at *field.Path) { ValidateNFS(e, src.NFS, at) })
	one.take(src.RBD != nil, "rbd", func(at *field.Path) { ValidateRBD(e, src.RBD.CephMonitors, src.RBD.RBDImage, at) })
	one.take(src.Quobyte != nil, "quobyte", func(at *field.Path) { ValidateQuobyte(e, src.Quobyte, at) })
	one.take(src.CephFS != nil, "cephFS", func(*field.Path) {
		if len(src.CephFS.Monitors) == 0 {
			e.Required(at.Child("cephfs", "monitors"), "")
		}
	})
	one.take(src.ISCSI != nil, "iscsi", func(at *field.Path) { validatePersistentISCSI(e, src.ISCSI, name, at) })
	one.take(src.Cinder != nil, "cinder", func(at *field.Path) {
		e.Present(at.Child("volumeID"), src.Cinder.VolumeID)
		if r := src.Cinder.SecretRef; r != nil {
			e.Present(at.Child("secretRef", "name"), r.Name)
			e.Present(at.Child("secretRef", "namespace"), r.Namespace)
		}
	})
	one.take(src.FC != nil, "fc", func(at *field.Path) { ValidateFC(e, src.FC, at) })
	if src.FlexVolume != nil { // Kubernetes minds no other source before this one.
		one.count++
		ValidateFlex(e, src.FlexVolume.Driver, src.FlexVolume.Options, at.Child("flexVolume"))
	}
	one.take(src.AzureFile != nil, "azureFile", func(at *field.Path) {
		e.Present(at.Child("secretName"), src.AzureFile.SecretName)
		e.Present(at.Child("shareName"), src.AzureFile.ShareName)
		if src.AzureFile.SecretNamespace != nil {
			e.Present(at.Child("secretNamespace"), *src.AzureFile.SecretNamespace)
		}
	})
	one.take(src.VsphereVolume != nil, "vsphereVolume", func(at *field.Path) {
		e.Present(at.Child("volumePath"), src.VsphereVolume.VolumePath)
	})
	one.take(src.PhotonPersistentDisk != nil, "photonPersistentDisk", func(at *field.Path) {
		e.Present(at.Child("pdID"), src.PhotonPersistentDisk.PdID)
	})
	one.take(src.PortworxVolume != nil, "portworxVolume", func(at *field.Path) {
		e.Present(at.Child("volumeID"), src.PortworxVolume.VolumeID)
	})
	one.take(src.AzureDisk != nil, "azureDisk", func(at *field.Path) { ValidateAzureDisk(e, src.AzureDisk, at) })
	one.take(src.ScaleIO != nil, "scaleIO", func(at *field.Path) {
		e.Present(at.Child("gateway"), src.ScaleIO.Gateway)
		e.Present(at.Child("system"), src.ScaleIO.System)
		e.Present(at.Child("volumeName"), src.ScaleIO.VolumeName)
	})
	one.take(src.Local != nil, "local", func(here *field.Path) {
		if e.Present(here.Child("path"), src.Local.Path) {
			e.NoBacksteps(here.Child("path"), src.Local.Path)
		}
		if !pinned {
			e.Required(at.Child("nodeAffinity"), "Local volume requires node affinity")
		}
	})
	one.take(src.StorageOS != nil, "storageos", func(at *field.Path) {
		e.RequiredLabel(at.Child("volumeName"), src.StorageOS.VolumeName)
		if src.StorageOS.VolumeNamespace != "" {
			e.Label(at.Child("volumeNamespace"), src.StorageOS.VolumeNamespace)
		}
		if r := src.StorageOS.SecretRef; r != nil {
			e.Present(at.Child("secretRef", "name"), r.Name)
			e.Present(at.Child("secretRef", "namespace"), r.Namespace)
		}
	})
	one.take(src.CSI != nil, "csi", func(at *field.Path) { validatePersistentCSI(e, src.CSI, at) })
	if one.count == 0 {
		e.Required(at, "must specify a volume type")
	}
}

func validatePersistentISCSI(e *check.Errors, i *corev1.ISCSIPersistentVolumeSource, name string, at *field.Path) {
	validateISCSI(e, i.TargetPortal, i.IQN, i.Lun, i.InitiatorName, at)
	if i.InitiatorName != nil && len(name+":"+i.TargetPortal) > maxISCSIName {
		e.Invalid(at.Child("targetportal"), i.TargetPortal, iscsiTooLong)
	}
	if (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil {
		e.Required(at.Child("secretRef"), "")
	}
	if i.SecretRef != nil {
		e.Present(at.Child("secretRef", "name"), i.SecretRef.Name)
	}
}

func validatePersistentCSI(e *check.Errors, c *corev1.CSIPersistentVolumeSource, at *field.Path) {
	ValidateDriverName(e, c.Driver, at.Child("driver"))
	e.Present(at.Child("volumeHandle"), c.VolumeHandle)
	secret := func(name string, r *corev1.SecretReference) {
		if r == nil {
			return
		}
		if here := at.Child(name, "name"); e.Present(here, r.Name) {
			e.Subdomain(here, r.Name)
		}
		e.RequiredLabel(at.Child(name, "namespace"), r.Namespace)
	}
	secret("controllerPublishSecretRef", c.ControllerPublishSecretRef)
	secret("controllerExpandSecretRef", c.ControllerExpandSecretRef)
	secret("nodePublishSecretRef", c.NodePublishSecretRef)
	secret("nodeExpandSecretRef", c.NodeExpandSecretRef)
}
