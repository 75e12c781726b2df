package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/podcert"
	"bareboat.dev/kubelet/volume"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// sources looks up what volumes are filled with.
type sources struct{ a *Agent }

func (s sources) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return s.a.objects.ConfigMap(ctx, namespace, name)
}

func (s sources) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return s.a.objects.Secret(ctx, namespace, name)
}

func (s sources) TrustBundle(ctx context.Context, name string) (*certificatesv1.ClusterTrustBundle, error) {
	return s.a.objects.TrustBundle(ctx, name)
}

func (s sources) TrustBundles(ctx context.Context, signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	return s.a.objects.TrustBundles(ctx, signer)
}

func (s sources) Certificate(ctx context.Context, p *corev1.Pod, source *corev1.PodCertificateProjection, state *podcert.State) (podcert.Credential, error) {
	return s.a.certificates.Credential(ctx, p, source, state)
}

// Claim returns a claim and the volume that it names.
func (s sources) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error) {
	c, err := client.Of(s.a.Client, client.PersistentVolumeClaims()).Get(ctx, namespace, name)
	if err != nil || c.Spec.VolumeName == "" {
		return c, nil, err
	}
	pv, err := client.Of(s.a.Client, client.PersistentVolumes()).Get(ctx, "", c.Spec.VolumeName)
	return c, pv, err
}

// tokenType names TokenRequest on the wire.
const tokenType = "type.googleapis.com/k8s.io.api.authentication.v1.TokenRequest"

// defaultTokenSeconds is the API's default for expirationSeconds of projected tokens.
const defaultTokenSeconds = 3600

// Token asks for a token bound to the pod. It is to be replaced when 80 % of its life, or a day, have passed.
func (s sources) Token(ctx context.Context, p *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (volume.Token, error) {
	seconds := int64(defaultTokenSeconds)
	if source.ExpirationSeconds != nil {
		seconds = *source.ExpirationSeconds
	}
	request := &authenticationv1.TokenRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Spec.ServiceAccountName},
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
		},
	}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	answer, err := s.requestToken(ctx, p, request)
	if err != nil {
		return volume.Token{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	now := time.Now()
	life := answer.Status.ExpirationTimestamp.Sub(now)
	const day = 24 * time.Hour
	return volume.Token{Value: answer.Status.Token, Renew: now.Add(min(life*8/10, day)), Expires: answer.Status.ExpirationTimestamp.Time}, nil
}

func (s sources) requestToken(ctx context.Context, p *corev1.Pod, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	body, err := request.Marshal()
	if err != nil {
		return nil, err
	}
	account := p.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	ref := client.ServiceAccounts().Ref(p.Namespace, account)
	ref.Subresource = "token"
	response, err := apiv1.NewResourceServiceClient(s.a.Client.Conn()).Create(ctx,
		&apiv1.CreateRequest{Ref: ref, Object: &anypb.Any{TypeUrl: tokenType, Value: body}})
	if err != nil {
		return nil, client.FromGRPC(ctx, err)
	}
	answer := &authenticationv1.TokenRequest{}
	return answer, answer.Unmarshal(response.GetObject().GetValue())
}

// certificateAPI is what pods' certificates need of the API; it implements podcert.API.
type certificateAPI struct{ a *Agent }

func (c certificateAPI) Ask(ctx context.Context, r *certificatesv1.PodCertificateRequest) error {
	_, err := client.Of(c.a.Client, client.PodCertificateRequests()).Create(ctx, r)
	return err
}

func (c certificateAPI) Request(ctx context.Context, p *corev1.Pod, name string) (*certificatesv1.PodCertificateRequest, error) {
	return c.a.objects.CertificateRequest(ctx, p, name)
}

func (c certificateAPI) Identity(ctx context.Context, p *corev1.Pod) (account, node types.UID, err error) {
	n := c.a.Node.Object()
	if n == nil {
		return "", "", errors.New("this node is not registered yet")
	}
	sa, err := client.Of(c.a.Client, client.ServiceAccounts()).Get(ctx, p.Namespace, p.Spec.ServiceAccountName)
	if err != nil {
		return "", "", err
	}
	return sa.UID, n.UID, nil
}
