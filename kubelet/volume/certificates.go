package volume

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/kubelet/podcert"
)

// errNoBundle: no trust bundle is what a source asks for.
var errNoBundle = errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")

// trustBundle adds trust anchors, each once. What is optional and not there is an empty file.
func (c *collector) trustBundle(source *corev1.ClusterTrustBundleProjection, mode *int32) error {
	bundles, err := c.trustBundles(source)
	missing := apierrors.IsNotFound(err) || errors.Is(err, errNoBundle)
	if err != nil && !(missing && isTrue(source.Optional)) {
		return err
	}
	return c.add(source.Path, c.credential(anchors(bundles), mode))
}

// trustBundles are those that a source selects, sorted by name.
func (c *collector) trustBundles(source *corev1.ClusterTrustBundleProjection) ([]*certificatesv1.ClusterTrustBundle, error) {
	switch {
	case source.Name != nil:
		b, err := c.m.c.Trust.TrustBundle(c.ctx, *source.Name)
		if err != nil {
			return nil, err
		}
		return []*certificatesv1.ClusterTrustBundle{b}, nil
	case source.SignerName == nil:
		return nil, fmt.Errorf("volume %q: a clusterTrustBundle source has neither name nor signerName", c.volume)
	}
	selector, err := metav1.LabelSelectorAsSelector(source.LabelSelector) // none selects nothing, an empty one everything
	if err != nil {
		return nil, err
	}
	all, err := c.m.c.Trust.TrustBundles(c.ctx, *source.SignerName)
	if err != nil {
		return nil, err
	}
	var selected []*certificatesv1.ClusterTrustBundle
	for _, b := range all {
		if selector.Matches(labels.Set(b.Labels)) {
			selected = append(selected, b)
		}
	}
	if len(selected) == 0 {
		return nil, errNoBundle
	}
	slices.SortFunc(selected, func(a, b *certificatesv1.ClusterTrustBundle) int { return strings.Compare(a.Name, b.Name) })
	return selected, nil
}

// anchors are the certificates of bundles in PEM, each once, without what stands between them.
func anchors(bundles []*certificatesv1.ClusterTrustBundle) []byte {
	var out bytes.Buffer
	seen := map[string]bool{}
	for _, b := range bundles {
		for block, rest := pem.Decode([]byte(b.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" || seen[string(block.Bytes)] {
				continue
			}
			seen[string(block.Bytes)] = true
			_ = pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // a buffer takes everything
		}
	}
	return out.Bytes()
}

// certificate adds the pod's key and certificates, in one file, in two, or both.
func (c *collector) certificate(source *corev1.PodCertificateProjection, mode *int32) error {
	key := c.volume + "/" + source.CredentialBundlePath + "/" + source.KeyPath + "/" + source.CertificateChainPath
	state := c.state.certificates[key]
	if state == nil {
		state = &podcert.State{}
		c.state.certificates[key] = state
		if have, ok := c.recover(source); ok {
			state.Have(have)
		}
	}
	got, err := c.m.c.Trust.Certificate(c.ctx, c.pod, source, state)
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{source.CredentialBundlePath: got.Bundle(), source.KeyPath: got.Key, source.CertificateChainPath: got.Chain} {
		if path == "" {
			continue
		}
		if err := c.add(path, c.credential(data, mode)); err != nil {
			return err
		}
	}
	return nil
}

// recover reads the credential that an earlier kubelet wrote to the volume.
func (c *collector) recover(source *corev1.PodCertificateProjection) (podcert.Credential, bool) {
	read := func(path string) []byte {
		if path == "" || !filepath.IsLocal(path) {
			return nil
		}
		data, err := os.ReadFile(filepath.Join(c.m.dir(c.pod.UID, pluginProjected, c.volume), dataLink, path))
		if err != nil {
			return nil
		}
		return data
	}
	key, chain := read(source.KeyPath), read(source.CertificateChainPath)
	if both := read(source.CredentialBundlePath); both != nil {
		key, chain = both, both
	}
	return podcert.Recover(c.pod.UID, key, chain, c.m.c.Now())
}
