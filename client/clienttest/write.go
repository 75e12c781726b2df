package clienttest

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// unknownTypeURL is how JSON and YAML bodies and custom resources travel.
const unknownTypeURL = "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown"

// Create implements ResourceService.
func (s *Server) Create(_ context.Context, req *apiv1.CreateRequest) (*apiv1.CreateResponse, error) {
	if err := s.check("Create", req.GetRef()); err != nil {
		return nil, toGRPC(err)
	}
	wire, err := s.create(req)
	return &apiv1.CreateResponse{Object: wire}, toGRPC(err)
}

func (s *Server) create(req *apiv1.CreateRequest) (*anypb.Any, error) {
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, err
	}
	switch sub := req.GetRef().GetSubresource(); sub {
	case "":
	case "binding":
		return s.bind(k, req)
	case "eviction":
		return s.evict(k, req)
	default:
		return nil, notFound(k, req.GetRef().GetName()+"/"+sub)
	}
	obj, err := decode(k, req.GetObject())
	if err != nil {
		return nil, err
	}
	if err := setNamespace(k, obj, req.GetRef().GetNamespace()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.create(k, obj, req.GetOptions().GetDryRun())
}

func (s *state) create(k kind, obj client.Object, dryRun bool) (*anypb.Any, error) {
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(obj.GetGenerateName() + rand.String(5))
	}
	key := objectKey{k.name, client.KeyOf(obj)}
	switch {
	case obj.GetName() == "":
		return nil, apierrors.NewBadRequest("name or generateName is required")
	case obj.GetResourceVersion() != "":
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	case s.objects[key] != nil:
		return nil, apierrors.NewAlreadyExists(groupResource(k), obj.GetName())
	case s.terminating(key.Namespace):
		return nil, apierrors.NewForbidden(groupResource(k), obj.GetName(),
			fmt.Errorf("unable to create new content in namespace %s because it is being terminated", key.Namespace))
	}
	obj.SetUID(types.UID(s.newUID()))
	obj.SetCreationTimestamp(metav1.Now())
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	if generational(k.name.resource) {
		obj.SetGeneration(1)
	}
	prepareNew(obj)
	return s.commit(k, key, obj, dryRun)
}

func (s *state) terminating(namespace string) bool {
	ns := s.objects[objectKey{resourceName{"", "namespaces"}, client.Key{Name: namespace}}]
	return ns != nil && ns.obj.GetDeletionTimestamp() != nil
}

// prepareNew resets what a creator may not set and sets what the server owns.
func prepareNew(obj client.Object) {
	switch obj := obj.(type) {
	case *corev1.Pod:
		obj.Status = corev1.PodStatus{Phase: corev1.PodPending}
	case *corev1.Namespace:
		obj.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
		obj.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
	case *corev1.Node:
	default:
		if f := statusOf(obj); f.IsValid() {
			f.SetZero()
		}
	}
}

// commit stores obj unless the request is a dry run, and returns it as the response carries it.
func (s *state) commit(k kind, key objectKey, obj client.Object, dryRun bool) (*anypb.Any, error) {
	var r *record
	var err error
	if dryRun {
		r, err = newRecord(k, obj)
	} else {
		r, err = s.put(k, key, obj)
	}
	if err != nil {
		return nil, err
	}
	return r.wire, nil
}

// Update implements ResourceService.
func (s *Server) Update(_ context.Context, req *apiv1.UpdateRequest) (*apiv1.UpdateResponse, error) {
	if err := s.check("Update", req.GetRef()); err != nil {
		return nil, toGRPC(err)
	}
	wire, unchanged, err := s.update(req)
	return &apiv1.UpdateResponse{Object: wire, Unchanged: unchanged}, toGRPC(err)
}

func (s *Server) update(req *apiv1.UpdateRequest) (*anypb.Any, bool, error) {
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, false, err
	}
	if req.GetRef().GetSubresource() == "scale" {
		return s.updateScale(k, req)
	}
	obj, err := decode(k, req.GetObject())
	if err != nil {
		return nil, false, err
	}
	if err := setNamespace(k, obj, req.GetRef().GetNamespace()); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.update(k, req.GetRef().GetSubresource(), obj, req.GetOptions().GetDryRun())
}

// update replaces an object, or the part of it that subresource names, by what obj says.
func (s *state) update(k kind, subresource string, obj client.Object, dryRun bool) (*anypb.Any, bool, error) {
	key := objectKey{k.name, client.KeyOf(obj)}
	old := s.objects[key]
	if old == nil {
		return nil, false, notFound(k, key.Name)
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != old.obj.GetResourceVersion() {
		return nil, false, conflict(k, key.Name)
	}
	if uid := obj.GetUID(); uid != "" && uid != old.obj.GetUID() {
		return nil, false, apierrors.NewConflict(groupResource(k), key.Name,
			fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", uid, old.obj.GetUID()))
	}
	obj, err := merged(k, subresource, old.obj, obj)
	if err != nil {
		return nil, false, err
	}
	if reflect.DeepEqual(obj, old.obj) {
		return old.wire, true, nil
	}
	if deletable(obj) && !dryRun {
		_, err := s.put(k, key, nil)
		return old.wire, false, err
	}
	wire, err := s.commit(k, key, obj, dryRun)
	return wire, false, err
}

func conflict(k kind, name string) error {
	return apierrors.NewConflict(groupResource(k), name,
		fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again"))
}

// merged is old changed as an update of the subresource by obj asks.
func merged(k kind, subresource string, old, obj client.Object) (client.Object, error) {
	out := obj.DeepCopyObject().(client.Object)
	switch subresource {
	case "":
		if from, to := statusOf(old), statusOf(out); from.IsValid() {
			to.Set(from)
		}
	case "status":
		out = old.DeepCopyObject().(client.Object)
		from, to := statusOf(obj), statusOf(out)
		if !from.IsValid() {
			return nil, notFound(k, obj.GetName()+"/status")
		}
		to.Set(from)
	case "finalize":
		ns, ok := out.(*corev1.Namespace)
		if !ok {
			return nil, notFound(k, obj.GetName()+"/finalize")
		}
		copied := old.DeepCopyObject().(*corev1.Namespace)
		copied.Spec.Finalizers = ns.Spec.Finalizers
		out = copied
	case "approval", "ephemeralcontainers", "resize":
	default:
		return nil, notFound(k, obj.GetName()+"/"+subresource)
	}
	keepSystemMetadata(k, out, old)
	// A round trip makes nil and empty alike, as the store does, so that an update that says nothing new is none.
	return roundTrip(k, out)
}

// keepSystemMetadata restores what only the server sets.
func keepSystemMetadata(k kind, obj, old client.Object) {
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetGenerateName(old.GetGenerateName())
	obj.SetResourceVersion(old.GetResourceVersion())
	obj.SetGeneration(old.GetGeneration())
	if generational(k.name.resource) {
		if a, b := specOf(obj), specOf(old); a.IsValid() && !reflect.DeepEqual(a.Interface(), b.Interface()) {
			obj.SetGeneration(old.GetGeneration() + 1)
		}
	}
}

// deletable tells whether an object under deletion waits for nothing any more.
func deletable(obj client.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

// decode unpacks a request's object, in protobuf, JSON or YAML.
func decode(k kind, a *anypb.Any) (client.Object, error) {
	obj := k.new()
	gvk := obj.GetObjectKind().GroupVersionKind()
	switch a.GetTypeUrl() {
	case k.typeURL:
		if err := obj.Unmarshal(a.GetValue()); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	case unknownTypeURL:
		var u runtime.Unknown
		if err := u.Unmarshal(a.GetValue()); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if err := yaml.UnmarshalStrict(u.Raw, obj); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %s", k.kindName, a.GetTypeUrl()))
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

func roundTrip(k kind, obj client.Object) (client.Object, error) {
	r, err := newRecord(k, obj)
	if err != nil {
		return nil, err
	}
	return decode(k, r.wire)
}

// setNamespace fills in the request's namespace; another one in the object is an error.
func setNamespace(k kind, obj client.Object, namespace string) error {
	if !k.namespaced {
		namespace = ""
	}
	if own := obj.GetNamespace(); own != "" && own != namespace {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the namespace of the provided object does not match the namespace sent on the request (%s != %s)", own, namespace))
	}
	if k.namespaced && namespace == "" {
		return apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	obj.SetNamespace(namespace)
	return nil
}

func statusOf(obj client.Object) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName("Status")
}
func specOf(obj client.Object) reflect.Value { return reflect.ValueOf(obj).Elem().FieldByName("Spec") }

func formatRevision(rev client.Revision) string { return strconv.FormatInt(rev, 10) }

// Put stores obj just as it is, status and all, in place of what was there: the state of the world that a test starts from.
// It sets only what is unset of uid and creation time, and returns the stored object.
func Put[T client.Object](s *Server, k client.Kind[T], obj T) T {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := adapt(k)
	stored := obj.DeepCopyObject().(client.Object)
	if stored.GetUID() == "" {
		stored.SetUID(types.UID(s.state.newUID()))
	}
	if created := stored.GetCreationTimestamp(); created.IsZero() {
		stored.SetCreationTimestamp(metav1.Now())
	}
	stored.GetObjectKind().SetGroupVersionKind(k.GVK())
	r, err := s.state.put(a, objectKey{a.name, client.KeyOf(stored)}, stored)
	if err != nil {
		s.t.Fatalf("clienttest: put %s: %v", strings.ToLower(k.KindName), err)
	}
	return r.obj.DeepCopyObject().(T)
}
