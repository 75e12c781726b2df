package core

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func secrets() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Secret"), Plural: "secrets", Singular: "secret",
		Namespaced: true, KeyPrefix: "/registry/secrets/",
		New:     func() registry.Object { return &corev1.Secret{} },
		NewList: func() runtime.Object { return &corev1.SecretList{} },
		Strategy: registry.Strategy{
			Default: registry.On(defaultSecret),
			PrepareUpdate: registry.OnChange(func(s, old *corev1.Secret) {
				if s.Type == "" {
					s.Type = old.Type
				}
			}),
			Validate:       registry.Checks(checkSecret),
			ValidateUpdate: registry.ChecksChange(checkSecretUpdate),
			ValidateName:   dnsSubdomain,
			Warnings:       registry.Warns(secretWarnings),

			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			"type": registry.Field(func(s *corev1.Secret) string { return string(s.Type) }),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Type", corev1.Secret{}.SwaggerDoc()["type"], func(s *corev1.Secret) string { return string(s.Type) }),
			registry.NumericText("Data", corev1.Secret{}.SwaggerDoc()["data"], func(s *corev1.Secret) string { return strconv.Itoa(len(s.Data)) }),
			registry.AgeColumn(),
		},
	}
}

// defaultSecret also folds stringData, which is never stored, into data.
func defaultSecret(s *corev1.Secret) {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	for key, value := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func checkSecret(e *check.Errors, s *corev1.Secret) {
	data := field.NewPath("data")
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		e.Each(data.Key(key), key, validation.IsConfigMapKey(key))
		size += len(s.Data[key])
	}
	if size > corev1.MaxSecretSize {
		e.Add(field.TooLong(data, "", corev1.MaxSecretSize))
	}
	need := func(keys ...string) {
		for _, key := range keys {
			if _, set := s.Data[key]; !set {
				e.Required(data.Key(key), "")
			}
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			e.Required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), "")
		}
	case corev1.SecretTypeDockercfg:
		need(corev1.DockerConfigKey)
		checkSecretJSON(e, s, corev1.DockerConfigKey, data)
	case corev1.SecretTypeDockerConfigJson:
		need(corev1.DockerConfigJsonKey)
		checkSecretJSON(e, s, corev1.DockerConfigJsonKey, data)
	case corev1.SecretTypeBasicAuth:
		_, hasUser := s.Data[corev1.BasicAuthUsernameKey]
		_, hasPassword := s.Data[corev1.BasicAuthPasswordKey]
		if !hasUser && !hasPassword {
			need(corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			e.Required(data.Key(corev1.SSHAuthPrivateKey), "")
		}
	case corev1.SecretTypeTLS:
		need(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
}

func checkSecretJSON(e *check.Errors, s *corev1.Secret, key string, data *field.Path) {
	if content, set := s.Data[key]; set {
		if err := json.Unmarshal(content, &map[string]any{}); err != nil {
			e.Invalid(data.Key(key), "<secret contents redacted>", err.Error())
		}
	}
}

func checkSecretUpdate(e *check.Errors, s, old *corev1.Secret) {
	e.Immutable(field.NewPath("type"), s.Type, old.Type)
	checkSealed(e, old.Immutable, s.Immutable, map[string][2]any{"data": {s.Data, old.Data}})
	checkSecret(e, s)
}
