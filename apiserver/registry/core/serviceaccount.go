package core

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/registry"
)

func serviceAccounts() *registry.Resource {
	token := registry.ConnectSubresource("create")
	token.Kind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	token.New = func() runtime.Object { return &authenticationv1.TokenRequest{} }
	return &registry.Resource{
		Kind: kind("ServiceAccount"), Plural: "serviceaccounts", Singular: "serviceaccount", ShortNames: []string{"sa"},
		Namespaced: true, KeyPrefix: "/registry/serviceaccounts/",
		New:     func() registry.Object { return &corev1.ServiceAccount{} },
		NewList: func() runtime.Object { return &corev1.ServiceAccountList{} },
		Strategy: registry.Strategy{
			ValidateName: apivalidation.ValidateServiceAccountName,
			Warnings:     registry.Warns(accountWarnings),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{"token": token},
	}
}
