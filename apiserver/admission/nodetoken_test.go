package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// grants allows one audience for one service account.
type grants struct{ audience, account string }

func (g grants) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	if a.Verb == "request-serviceaccounts-token-audience" && a.Group == "" && a.Resource == g.audience && a.Name == g.account && a.Namespace == "ns" && a.User.Name == "system:node:n1" {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

// A node gets tokens only for audiences that the pod's projected volumes or its volumes' CSI drivers name, or that it was granted.
func TestNodeAsksForItsPodsAudiences(t *testing.T) {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u"} }
	projected := func(audience string) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{}}, {ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience}},
		}}}
	}
	csi := corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d"}}
	claim := func(name string) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
	}
	ephemeral := corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}
	bound := func(name, volume string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: meta(name), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: volume}}
	}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	volume.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d"}
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: storagev1.CSIDriverSpec{TokenRequests: []storagev1.TokenRequest{{Audience: "store"}, {Audience: ""}}}}
	world := few{
		"persistentvolumeclaims c": bound("c", "pv"), "persistentvolumeclaims p-v": bound("p-v", "pv"), "persistentvolumeclaims unbound": bound("unbound", ""),
		"persistentvolumes pv": volume,
	}
	withDriver := few{"csidrivers d": driver}
	for k, v := range world {
		withDriver[k] = v
	}
	const notThere = "not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience"
	for name, c := range map[string]struct {
		world     few
		source    corev1.VolumeSource
		audiences []string
		refused   string
	}{
		"the server's own":               {world, projected(""), nil, ""},
		"the server's own, in words":     {world, projected(""), []string{""}, ""},
		"the server's own, none asks":    {world, corev1.VolumeSource{}, nil, `audience "" ` + notThere},
		"a projected volume's":           {world, projected("vault"), []string{"vault"}, ""},
		"another than a volume's":        {world, projected("vault"), []string{"bank"}, `audience "bank" ` + notThere},
		"several":                        {world, projected("vault"), []string{"vault", "bank"}, "node may only request 0 or 1 audiences"},
		"granted":                        {world, corev1.VolumeSource{}, []string{"granted"}, ""},
		"an inline driver's":             {withDriver, csi, []string{"store"}, ""},
		"an inline driver's, the server": {withDriver, csi, nil, ""},
		"not an inline driver's":         {withDriver, csi, []string{"bank"}, `audience "bank" ` + notThere},
		"a claimed volume's driver's":    {withDriver, claim("c"), []string{"store"}, ""},
		"an ephemeral volume's driver's": {withDriver, ephemeral, []string{"store"}, ""},
		"an unbound claim's":             {withDriver, claim("unbound"), []string{"store"}, `audience "store" ` + notThere},
		"a driver that is not there":     {world, csi, []string{"store"}, `error validating audience "store": csidriver.storage.k8s.io "d" not found`},
		"a claim that is not there":      {withDriver, claim("gone"), []string{"store"}, `error validating audience "store": persistentvolumeclaim "gone" not found`},
	} {
		pod := &corev1.Pod{ObjectMeta: meta("p"), Spec: corev1.PodSpec{NodeName: "n1", Volumes: []corev1.Volume{{Name: "v", VolumeSource: c.source}}}}
		seen := few{"pods p": pod}
		for k, v := range c.world {
			seen[k] = v
		}
		err := NodeRestriction(seen, grants{"granted", "robot"}).Mutate(t.Context(), &Attributes{
			Operation: Create, User: &authn.Identity{Name: "system:node:n1", Groups: []string{authn.Nodes}}, Namespace: "ns", Name: "robot", Subresource: "token",
			Resource: &registry.Resource{Kind: corev1.SchemeGroupVersion.WithKind("ServiceAccount"), Plural: "serviceaccounts"},
			Body: &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
				Audiences: c.audiences, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u"},
			}},
		})
		if want := `serviceaccounts "robot" is forbidden: ` + c.refused; (err == nil) != (c.refused == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// A node's mirror pods are its own Node's, which must be the one that exists now, and reach for nothing in the API.
func TestMirrorPodsAreTheirNodes(t *testing.T) {
	yes := true
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "n1-uid", Controller: &yes}
	plugin := NodeRestriction(few{"nodes n1": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1-uid"}}}, nil)
	for name, c := range map[string]struct {
		change  func(*corev1.Pod)
		refused string
	}{
		"its own":           {func(*corev1.Pod) {}, ""},
		"no mirror":         {func(p *corev1.Pod) { p.Annotations = nil }, `pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods`},
		"no owner":          {func(p *corev1.Pod) { p.OwnerReferences = nil }, "an owner reference set to itself"},
		"two owners":        {func(p *corev1.Pod) { p.OwnerReferences = append(p.OwnerReferences, owner) }, "a single owner reference set to itself"},
		"another node's":    {func(p *corev1.Pod) { p.OwnerReferences[0].Name = "n2" }, "an owner reference set to itself"},
		"no controller":     {func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }, "a controller owner reference set to itself"},
		"an earlier node's": {func(p *corev1.Pod) { p.OwnerReferences[0].UID = "old" }, "node n1 UID mismatch: expected old got n1-uid"},
		"blocks its node":   {func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = &yes }, "must not set blockOwnerDeletion"},
		"with an account":   {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "a" }, "reference a service account"},
		"with a secret":     {func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}} }, "reference secrets"},
		"with a trust store": {func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}}}}}}
		}, "reference clustertrustbundles"},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}, OwnerReferences: []metav1.OwnerReference{owner}}, Spec: corev1.PodSpec{NodeName: "n1"}}
		c.change(p)
		err := plugin.Mutate(t.Context(), &Attributes{
			Operation: Create, User: &authn.Identity{Name: "system:node:n1", Groups: []string{authn.Nodes}}, Namespace: "ns", Name: "p", Object: p,
			Resource: &registry.Resource{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Plural: "pods"},
		})
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A node publishes its own devices, asks for its own certificates, and says of claims only how large their volumes are.
func TestNodeWritesWhatIsItsOwn(t *testing.T) {
	slice := func(node string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{NodeName: &node}}
	}
	csr := func(signer, name string) *certificatesv1.CertificateSigningRequest {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		}}
	}
	claim := func(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
		change(c)
		return c
	}
	plain := claim(func(*corev1.PersistentVolumeClaim) {})
	slices, requests := resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"), certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest")
	claims := corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim")
	plurals := map[schema.GroupVersionKind]string{slices: "resourceslices", requests: "certificatesigningrequests", claims: "persistentvolumeclaims"}
	for name, c := range map[string]struct {
		op          Operation
		kind        schema.GroupVersionKind
		sub         string
		object, old registry.Object
		refused     string
	}{
		"own slice":               {Create, slices, "", slice("n1"), nil, ""},
		"another's slice":         {Create, slices, "", slice("n2"), nil, "can only create ResourceSlice with the same NodeName as the requesting node"},
		"own slice's end":         {Delete, slices, "", nil, slice("n1"), ""},
		"another's slice's end":   {Delete, slices, "", nil, slice("n2"), "can only delete ResourceSlice with the same NodeName as the requesting node"},
		"own certificate":         {Create, requests, "", csr(certificatesv1.KubeletServingSignerName, "system:node:n1"), nil, ""},
		"another's certificate":   {Create, requests, "", csr(certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:n2"), nil, "can only create a node CSR with CN=system:node:n1"},
		"a certificate elsewhere": {Create, requests, "", csr("example.com/x", "web"), nil, ""},
		"a claim":                 {Update, claims, "", plain, plain, "may only update PVC status"},
		"a claim's size": {Update, claims, "status", claim(func(c *corev1.PersistentVolumeClaim) {
			c.Status.Capacity = corev1.ResourceList{"storage": quantity.MustParse("1Gi")}
		}), plain, ""},
		"a claim's label": {Update, claims, "status", claim(func(c *corev1.PersistentVolumeClaim) { c.Labels = map[string]string{"a": "b"} }), plain,
			`node "n1" is not allowed to update fields other than status.quantity and status.conditions`},
	} {
		a := &Attributes{
			Operation: c.op, User: &authn.Identity{Name: "system:node:n1", Groups: []string{authn.Nodes}}, Name: "x", Subresource: c.sub,
			Resource: &registry.Resource{Kind: c.kind, Plural: plurals[c.kind]}, Object: c.object, Old: c.old,
		}
		err := NodeRestriction(few{}, nil).Mutate(t.Context(), a)
		if (err == nil) != (c.refused == "") || err != nil && !strings.HasSuffix(err.Error(), c.refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
