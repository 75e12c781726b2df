package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
)

// optimisticLockMessage is Kubernetes' wording for a write against a stale resource version.
const optimisticLockMessage = "the object has been modified; please apply your changes to the latest version and try again"

var errStale = errors.New(optimisticLockMessage)

var errTerminating = errors.New("create not allowed while custom resource definition is terminating")

func forbidden(a *authz.Attributes, reason string) error {
	if a.Resource == "" {
		return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(a.Message(reason)))
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New(a.Message(reason)))
}

// Unauthorized is the answer to credentials that are not good.
func Unauthorized() error { return apierrors.NewUnauthorized("Unauthorized") }

// MethodNotAllowed is the answer to a verb that a resource does not have, in Kubernetes' words.
func MethodNotAllowed() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: "the server does not allow this method on the requested resource", Details: &metav1.StatusDetails{},
	}}
}

// servedElsewhere is the answer to a request that only the REST door passes on.
func servedElsewhere(r *Request) error {
	gv := schema.GroupVersion{Group: r.Group, Version: r.Version}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: fmt.Sprintf("%s is served by another API server (see its APIService), which is reached over REST only", gv),
		Details: &metav1.StatusDetails{Group: r.Group, Kind: r.Resource},
	}}
}

// notServed is the answer to a resource that does not exist.
func notServed() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{},
	}}
}

// storeError translates what the store and the watch cache return. Errors that are StatusErrors already pass.
func storeError(gr schema.GroupResource, name string, err error) error {
	var status *apierrors.StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return status
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, storage.ErrUnknownOutcome):
		return err
	case errors.Is(err, storage.ErrNotFound):
		return apierrors.NewNotFound(gr, name)
	case errors.Is(err, storage.ErrConflict):
		return apierrors.NewConflict(gr, name, errStale)
	case errors.Is(err, watchcache.ErrExpired), errors.Is(err, storage.ErrCompacted):
		return apierrors.NewResourceExpired("The resourceVersion for the provided list or watch is too old.")
	case errors.Is(err, storage.ErrFuture):
		return tooLarge(err)
	case errors.Is(err, storage.ErrUnknownOutcome):
		return apierrors.NewTimeoutError(fmt.Sprintf("the write was sent to the store: %v", err), 1)
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, storage.ErrClosed):
		return apierrors.NewServiceUnavailable(err.Error())
	}
	return apierrors.NewInternalError(err)
}

// tooLarge is Kubernetes' answer to a resource version that has not happened.
func tooLarge(err error) error {
	e := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %v", err), 1)
	e.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return e
}
