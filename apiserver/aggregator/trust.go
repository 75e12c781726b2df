package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
)

// Trust is what other API servers need to know to believe this one: it is published as the ConfigMap
// kube-system/extension-apiserver-authentication, where their libraries look for it.
type Trust struct {
	// ClientCA and ProxyCA are the authorities of clients and of front proxies, in PEM, as they are now; ProxyCA may be nil.
	ClientCA, ProxyCA func() ([]byte, error)
	// ProxyNames are the allowed common names of front proxies.
	ProxyNames []string
}

const (
	trustName = "extension-apiserver-authentication"
	// publishEvery is how often the files are looked at: authorities are replaced once in years, and both the old and the new one
	// are valid for long.
	publishEvery = time.Minute
)

// publish keeps the ConfigMap.
func (a *Aggregator) publish(ctx context.Context) {
	if a.cfg.Trust == nil {
		return
	}
	for {
		if err := a.publishOnce(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("publishing the authorities for aggregated API servers failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishEvery):
		}
	}
}

// data is the ConfigMap's contents.
func (t *Trust) data() (map[string]string, error) {
	clients, err := t.ClientCA()
	if err != nil {
		return nil, err
	}
	out := map[string]string{"client-ca-file": string(clients)}
	if t.ProxyCA == nil {
		return out, nil
	}
	proxies, err := t.ProxyCA()
	if err != nil {
		return nil, err
	}
	out["requestheader-client-ca-file"] = string(proxies)
	names := t.ProxyNames
	if names == nil {
		names = []string{}
	}
	for key, list := range map[string][]string{
		"requestheader-allowed-names": names, "requestheader-username-headers": {headerUser}, "requestheader-uid-headers": {headerUID},
		"requestheader-group-headers": {headerGroup}, "requestheader-extra-headers-prefix": {headerExtra},
	} {
		b, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		out[key] = string(b)
	}
	return out, nil
}

func (a *Aggregator) publishOnce(ctx context.Context) error {
	data, err := a.cfg.Trust.data()
	if err != nil {
		return err
	}
	obj, ok, err := a.cfg.Pipeline.Object(ctx, "", "configmaps", metav1.NamespaceSystem, trustName, true)
	if err != nil {
		return err
	}
	verb, m := pipeline.Create, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: trustName}}
	if ok {
		have := obj.(*corev1.ConfigMap)
		if maps.Equal(have.Data, data) {
			return nil
		}
		verb, m = pipeline.Update, have.DeepCopy()
	}
	m.Data = data
	raw, err := m.Marshal()
	if err != nil {
		return err
	}
	_, err = a.cfg.Pipeline.Do(ctx, &pipeline.Request{
		Verb: verb, Caller: pipeline.System(), Ref: pipeline.Ref{Version: "v1", Resource: "configmaps", Namespace: metav1.NamespaceSystem, Name: trustName},
		Body: pipeline.Body{ContentType: pipeline.Raw, Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Data: raw},
	})
	var status apierrors.APIStatus
	if errors.As(err, &status) && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)) {
		return nil // another server was first; it is looked at again
	}
	return err
}
