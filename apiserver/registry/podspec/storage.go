package podspec

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// checkNetworkStorage covers the volume sources of particular storage systems. Most are served by CSI drivers or by nobody
// today; their fields are checked all the same.
func (s *scope) checkNetworkStorage(one *oneSource, v *corev1.Volume) {
	src, e := &v.VolumeSource, s.Errors
	one.take(src.GCEPersistentDisk != nil, "gcePersistentDisk", func(*field.Path) {
		ValidateGCEDisk(e, src.GCEPersistentDisk, one.at.Child("persistentDisk"))
	})
	one.take(src.AWSElasticBlockStore != nil, "awsElasticBlockStore", func(at *field.Path) {
		ValidateAWSVolume(e, src.AWSElasticBlockStore, at)
	})
	one.take(src.NFS != nil, "nfs", func(at *field.Path) { ValidateNFS(e, src.NFS, at) })
	one.take(src.ISCSI != nil, "iscsi", func(at *field.Path) {
		i := src.ISCSI
		validateISCSI(e, i.TargetPortal, i.IQN, i.Lun, i.InitiatorName, at)
		if (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil {
			e.Required(at.Child("secretRef"), "")
		}
	})
	if src.ISCSI != nil && src.ISCSI.InitiatorName != nil && len(v.Name+":"+src.ISCSI.TargetPortal) > maxISCSIName {
		e.Invalid(one.at.Child("name"), v.Name, iscsiTooLong)
	}
	one.take(src.Glusterfs != nil, "glusterfs", func(at *field.Path) {
		e.Present(at.Child("endpoints"), src.Glusterfs.EndpointsName)
		e.Present(at.Child("path"), src.Glusterfs.Path)
	})
	one.take(src.Flocker != nil, "flocker", func(at *field.Path) { ValidateFlocker(e, src.Flocker, at) })
	one.take(src.RBD != nil, "rbd", func(at *field.Path) { ValidateRBD(e, src.RBD.CephMonitors, src.RBD.RBDImage, at) })
	one.take(src.Cinder != nil, "cinder", func(at *field.Path) {
		e.Present(at.Child("volumeID"), src.Cinder.VolumeID)
		if src.Cinder.SecretRef != nil {
			e.Present(at.Child("secretRef", "name"), src.Cinder.SecretRef.Name)
		}
	})
	one.take(src.CephFS != nil, "cephfs", func(at *field.Path) {
		if len(src.CephFS.Monitors) == 0 {
			e.Required(at.Child("monitors"), "")
		}
	})
	one.take(src.Quobyte != nil, "quobyte", func(at *field.Path) { ValidateQuobyte(e, src.Quobyte, at) })
	one.take(src.FC != nil, "fc", func(at *field.Path) { ValidateFC(e, src.FC, at) })
	one.take(src.FlexVolume != nil, "flexVolume", func(at *field.Path) {
		ValidateFlex(e, src.FlexVolume.Driver, src.FlexVolume.Options, at)
	})
	one.take(src.AzureFile != nil, "azureFile", func(at *field.Path) {
		e.Present(at.Child("secretName"), src.AzureFile.SecretName)
		e.Present(at.Child("shareName"), src.AzureFile.ShareName)
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
	one.take(src.StorageOS != nil, "storageos", func(at *field.Path) {
		e.RequiredLabel(at.Child("volumeName"), src.StorageOS.VolumeName)
		if src.StorageOS.VolumeNamespace != "" {
			e.Label(at.Child("volumeNamespace"), src.StorageOS.VolumeNamespace)
		}
		if src.StorageOS.SecretRef != nil {
			e.Present(at.Child("secretRef", "name"), src.StorageOS.SecretRef.Name)
		}
	})
	one.take(src.ScaleIO != nil, "scaleIO", func(at *field.Path) {
		e.Present(at.Child("gateway"), src.ScaleIO.Gateway)
		e.Present(at.Child("system"), src.ScaleIO.System)
		e.Present(at.Child("volumeName"), src.ScaleIO.VolumeName)
	})
}

func validatePartition(e *check.Errors, partition int32, at *field.Path) {
	if partition < 0 || partition > 255 {
		e.Invalid(at, partition, validation.InclusiveRangeError(1, 255))
	}
}

// ValidateGCEDisk checks a Google disk.
func ValidateGCEDisk(e *check.Errors, d *corev1.GCEPersistentDiskVolumeSource, at *field.Path) {
	e.Present(at.Child("pdName"), d.PDName)
	validatePartition(e, d.Partition, at.Child("partition"))
}

// ValidateAWSVolume checks an Amazon block store volume.
func ValidateAWSVolume(e *check.Errors, v *corev1.AWSElasticBlockStoreVolumeSource, at *field.Path) {
	e.Present(at.Child("volumeID"), v.VolumeID)
	validatePartition(e, v.Partition, at.Child("partition"))
}

// ValidateNFS checks an NFS export.
func ValidateNFS(e *check.Errors, n *corev1.NFSVolumeSource, at *field.Path) {
	e.Present(at.Child("server"), n.Server)
	e.Present(at.Child("path"), n.Path)
	if !path.IsAbs(n.Path) {
		e.Invalid(at.Child("path"), n.Path, "must be an absolute path")
	}
}

// ValidateFlocker checks a Flocker dataset.
func ValidateFlocker(e *check.Errors, f *corev1.FlockerVolumeSource, at *field.Path) {
	if f.DatasetName == "" && f.DatasetUUID == "" {
		e.Required(at, "one of datasetName and datasetUUID is required")
	}
	if f.DatasetName != "" && f.DatasetUUID != "" {
		e.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")
	}
	if strings.Contains(f.DatasetName, "/") {
		e.Invalid(at.Child("datasetName"), f.DatasetName, "must not contain '/'")
	}
}

// ValidateRBD checks a Ceph block device.
func ValidateRBD(e *check.Errors, monitors []string, image string, at *field.Path) {
	if len(monitors) == 0 {
		e.Required(at.Child("monitors"), "")
	}
	e.Present(at.Child("image"), image)
}

// ValidateQuobyte checks a Quobyte volume.
func ValidateQuobyte(e *check.Errors, q *corev1.QuobyteVolumeSource, at *field.Path) {
	const hostPorts = "must be a host:port pair or multiple pairs separated by commas"
	const maxTenant = 64
	switch {
	case q.Registry == "":
		e.Required(at.Child("registry"), hostPorts)
	case len(q.Tenant) > maxTenant:
		e.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters")
	default:
		for pair := range strings.SplitSeq(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				e.Invalid(at.Child("registry"), q.Registry, hostPorts)
			}
		}
	}
	e.Present(at.Child("volume"), q.Volume)
}

// ValidateFC checks a Fibre Channel volume.
func ValidateFC(e *check.Errors, f *corev1.FCVolumeSource, at *field.Path) {
	wwns := at.Child("targetWWNs")
	if len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0 {
		e.Required(wwns, "must specify either targetWWNs or wwids, but not both")
	}
	if len(f.TargetWWNs) == 0 {
		return
	}
	if len(f.WWIDs) != 0 {
		e.Invalid(wwns, f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")
	}
	if f.Lun == nil {
		e.Required(at.Child("lun"), "lun is required if targetWWNs is specified")
	} else if *f.Lun < 0 || *f.Lun > 255 {
		e.Invalid(at.Child("lun"), *f.Lun, validation.InclusiveRangeError(0, 255))
	}
}

// ValidateFlex checks a FlexVolume's driver and options.
func ValidateFlex(e *check.Errors, driver string, options map[string]string, at *field.Path) {
	e.Present(at.Child("driver"), driver)
	for key := range options {
		namespace, _, _ := strings.Cut(key, "/")
		namespace = "." + strings.ToLower(namespace)
		if strings.HasSuffix(namespace, ".kubernetes.io") || strings.HasSuffix(namespace, ".k8s.io") {
			e.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved")
		}
	}
}

// ValidateAzureDisk checks an Azure disk.
func ValidateAzureDisk(e *check.Errors, d *corev1.AzureDiskVolumeSource, at *field.Path) {
	e.Present(at.Child("diskName"), d.DiskName)
	e.Present(at.Child("diskURI"), d.DataDiskURI)
	if d.CachingMode != nil {
		check.Supported(e, at.Child("cachingMode"), *d.CachingMode,
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	}
	if d.Kind == nil {
		return
	}
	check.Supported(e, at.Child("kind"), *d.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)
	managed := *d.Kind == corev1.AzureManagedDisk
	if managed && !strings.HasPrefix(d.DataDiskURI, "/subscriptions/") {
		e.Add(field.NotSupported(at.Child("diskURI"), d.DataDiskURI,
			[]string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
	}
	if !managed && !strings.HasPrefix(d.DataDiskURI, "https://") {
		e.Add(field.NotSupported(at.Child("diskURI"), d.DataDiskURI,
			[]string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
}

const (
	maxISCSIName = 64
	iscsiTooLong = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
)

var (
	iqnFormat = regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`)
	euiFormat = regexp.MustCompile(`^eui.[[:alnum:]]{16}$`)
	naaFormat = regexp.MustCompile(`^naa.[[:alnum:]]{32}$`)
)

func validateISCSI(e *check.Errors, portal, iqn string, lun int32, initiator *string, at *field.Path) {
	e.Present(at.Child("targetPortal"), portal)
	if e.Present(at.Child("iqn"), iqn) {
		validateISCSIName(e, iqn, at.Child("iqn"))
	}
	if lun < 0 || lun > 255 {
		e.Invalid(at.Child("lun"), lun, validation.InclusiveRangeError(0, 255))
	}
	if initiator != nil {
		validateISCSIName(e, *initiator, at.Child("initiatorname"))
	}
}

func validateISCSIName(e *check.Errors, name string, at *field.Path) {
	formats := map[string]*regexp.Regexp{"iqn": iqnFormat, "eui": euiFormat, "naa": naaFormat}
	for prefix, format := range formats {
		if strings.HasPrefix(name, prefix) {
			if !format.MatchString(name) {
				e.Invalid(at, name, "must be valid format")
			}
			return
		}
	}
	e.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")
}
