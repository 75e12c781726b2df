package storage

import (
	"math"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/core"
)

func attachments() *registry.Resource {
	return &registry.Resource{
		Kind:   storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Plural: "volumeattachments", Singular: "volumeattachment",
		KeyPrefix: "/registry/volumeattachments/",
		New:       func() registry.Object { return &storagev1.VolumeAttachment{} },
		NewList:   func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		Strategy: registry.Strategy{
			PrepareCreate: registry.On(func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} }),
			PrepareUpdate: registry.OnChange(func(a, old *storagev1.VolumeAttachment) { a.Status = old.Status }),
			Validate: registry.Checks(func(e *check.Errors, a *storagev1.VolumeAttachment) {
				checkAttachment(e, a)
				checkDriverName(e, a.Spec.Attacher, field.NewPath("spec.attacher"))
				if name := a.Spec.Source.PersistentVolumeName; name != nil {
					e.Name(field.NewPath("spec.source.persistentVolumeName"), *name, apivalidation.NameIsDNSSubdomain)
				}
			}),
			ValidateUpdate: registry.ChecksChange(checkAttachmentUpdate),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
		},
		Columns: attachmentColumns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(a, body *storagev1.VolumeAttachment) { a.Status = body.Status }, checkAttachmentUpdate),
		},
	}
}

// The bounds of what an attacher reports.
const (
	maxAttachmentMetadata = 256 << 10
	maxErrorMessage       = 1024
)

func checkAttachment(e *check.Errors, a *storagev1.VolumeAttachment) {
	at, source := field.NewPath("spec"), &a.Spec.Source
	e.Present(at.Child("attacher"), a.Spec.Attacher)
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch {
	case source.InlineVolumeSpec == nil && source.PersistentVolumeName == nil:
		e.Required(at.Child("source"), one)
	case source.InlineVolumeSpec != nil && source.PersistentVolumeName != nil:
		e.Forbidden(at.Child("source"), one)
	case source.InlineVolumeSpec != nil:
		core.CheckInlineVolume(e, source.InlineVolumeSpec, at.Child("source", "inlineVolumeSpec"))
	case *source.PersistentVolumeName == "":
		e.Required(at.Child("source", "persistentVolumeName"), "must specify non empty persistentVolumeName")
	}
	e.Name(at.Child("nodeName"), a.Spec.NodeName, apivalidation.NameIsDNSSubdomain)
	status := field.NewPath("status")
	size := 0
	for k, v := range a.Status.AttachmentMetadata {
		size += len(k) + len(v)
	}
	if size > maxAttachmentMetadata {
		e.Add(field.TooLong(status.Child("attachmentMetadata"), "", maxAttachmentMetadata))
	}
	checkVolumeError(e, a.Status.AttachError, status.Child("attachError"))
	checkVolumeError(e, a.Status.DetachError, status.Child("detachError"))
}

func checkVolumeError(e *check.Errors, v *storagev1.VolumeError, at *field.Path) {
	if v == nil {
		return
	}
	if len(v.Message) > maxErrorMessage {
		// The bound that Kubernetes names is another one.
		e.Add(field.TooLong(at.Child("message"), "", maxAttachmentMetadata))
	}
	if v.ErrorCode != nil && *v.ErrorCode < 0 {
		e.Invalid(at.Child("errorCode"), *v.ErrorCode, validation.InclusiveRangeError(0, math.MaxInt32))
	}
}

func checkAttachmentUpdate(e *check.Errors, a, old *storagev1.VolumeAttachment) {
	checkAttachment(e, a)
	if !equality.Semantic.DeepEqual(a.Spec, old.Spec) {
		e.Invalid(field.NewPath("spec"), a.Spec, "field is immutable")
	}
}

func attachmentColumns() []registry.Column {
	type attachment = *storagev1.VolumeAttachment
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	attacher := registry.Text("Attacher", spec["attacher"], func(a attachment) string { return a.Spec.Attacher })
	attacher.Format = "name"
	return []registry.Column{
		registry.NameColumn(),
		attacher,
		registry.Text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"], func(a attachment) string {
			if a.Spec.Source.PersistentVolumeName == nil {
				return ""
			}
			return *a.Spec.Source.PersistentVolumeName
		}),
		registry.Text("Node", spec["nodeName"], func(a attachment) string { return a.Spec.NodeName }),
		registry.Truth("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"], func(a attachment) bool { return a.Status.Attached }),
		registry.AgeColumn(),
	}
}
