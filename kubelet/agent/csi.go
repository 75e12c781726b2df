package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/volume"
)

// nodeIDs is the annotation of a node that has its id in each driver's words, as a JSON object.
const nodeIDs = "csi.volume.kubernetes.io/nodeid"

// csiAPI is what CSI drivers need of the API; it implements csi.API.
type csiAPI struct{ a *Agent }

func (c csiAPI) CSIDriver(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	return client.Of(c.a.Client, client.CSIDrivers()).Get(ctx, "", name)
}

func (c csiAPI) VolumeAttachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error) {
	return client.Of(c.a.Client, client.VolumeAttachments()).Get(ctx, "", name)
}

func (c csiAPI) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return c.a.objects.Secret(ctx, namespace, name)
}

func (c csiAPI) Token(ctx context.Context, p *corev1.Pod, audience string, seconds *int64) (volume.Token, error) {
	return sources{c.a}.Token(ctx, p, &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: seconds})
}

func (c csiAPI) TellInUse(ctx context.Context, v corev1.UniqueVolumeName) error {
	if v == "" {
		c.a.Node.Nudge()
		return nil
	}
	return c.a.Node.AwaitInUse(ctx, v)
}

// PublishDrivers writes CSINode, and the node's labels and annotation, where they are not so already.
func (c csiAPI) PublishDrivers(ctx context.Context, drivers []storagev1.CSINodeDriver, labels map[string]string) error {
	node, err := client.Of(c.a.Client, client.Nodes()).Get(ctx, "", c.a.NodeName)
	if apierrors.IsNotFound(err) && len(drivers) == 0 {
		return nil // nor is there a CSINode, which goes with its node
	}
	if err != nil {
		return fmt.Errorf("tell of CSI drivers: %w", err)
	}
	if err := c.publishNode(ctx, node, drivers, labels); err != nil {
		return fmt.Errorf("tell of CSI drivers: %w", err)
	}
	r := client.Of(c.a.Client, client.CSINodes())
	have, err := r.Get(ctx, "", node.Name)
	switch {
	case apierrors.IsNotFound(err):
		fresh := &storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: drivers}}
		fresh.Name = node.Name
		fresh.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
		_, err = r.Create(ctx, fresh)
	case err == nil && !sameDrivers(have.Spec.Drivers, drivers):
		have.Spec.Drivers = drivers
		_, err = r.Update(ctx, have)
	}
	if err != nil {
		return fmt.Errorf("tell of CSI drivers: %w", err)
	}
	return nil
}

func sameDrivers(a, b []storagev1.CSINodeDriver) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// publishNode patches what the node object says of its drivers. Labels of drivers that are gone stay, as volumes may be bound by them.
func (c csiAPI) publishNode(ctx context.Context, node *corev1.Node, drivers []storagev1.CSINodeDriver, labels map[string]string) error {
	ids := map[string]string{}
	for _, d := range drivers {
		ids[d.Name] = d.NodeID
	}
	text := ""
	if len(ids) > 0 {
		data, err := json.Marshal(ids) // keys come out sorted
		if err != nil {
			return err
		}
		text = string(data)
	}
	same := node.Annotations[nodeIDs] == text
	for k, v := range labels {
		same = same && node.Labels[k] == v
	}
	if same {
		return nil
	}
	var annotation any // null removes
	if text != "" {
		annotation = text
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": map[string]any{nodeIDs: annotation}}})
	if err != nil {
		return err
	}
	_, err = client.Of(c.a.Client, client.Nodes()).Patch(ctx, "", node.Name, client.MergePatch, patch, client.PatchOptions{})
	return err
}
