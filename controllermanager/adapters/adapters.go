// Package adapters asks the servers of custom.metrics.k8s.io and external.metrics.k8s.io, which stand behind the API server as
// aggregated APIs, for the metrics that autoscalers name (https://github.com/kubernetes/metrics). Values are in thousandths, as
// quantities count.
//
//	source := adapters.Source{Paths: paths}
//	perPod, err := source.Pods(ctx, "shop", "app=web", metric)
package adapters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Paths reads documents of the API server; client/rest does.
type Paths interface {
	Get(ctx context.Context, path string) ([]byte, error)
}

// The groups of the APIs that adapters serve behind the API server, with the versions that are understood, the best first.
const (
	customGroup   = "custom.metrics.k8s.io"
	externalGroup = "external.metrics.k8s.io"
)

var (
	customVersions   = []string{"v1beta2", "v1beta1"}
	externalVersions = []string{"v1beta1"}
)

// Source asks for metrics. Without Paths there are none.
type Source struct{ Paths Paths }

// value is one item of the lists that adapters answer with.
type value struct {
	DescribedObject struct {
		Name string `json:"name"`
	} `json:"describedObject"`
	Value resource.Quantity `json:"value"`
}

// Pods reads a metric of the pods that a selector selects, by their names.
func (s Source) Pods(ctx context.Context, namespace, selector string, m autoscalingv2.MetricIdentifier) (map[string]int64, error) {
	values, err := s.custom(ctx, "namespaces/"+url.PathEscape(namespace)+"/pods/*/"+url.PathEscape(m.Name), selector, m)
	out := map[string]int64{}
	for _, v := range values {
		out[v.DescribedObject.Name] = v.Value.MilliValue()
	}
	return out, err
}

// Object reads a metric of one object: a namespaced one of a resource such as ingresses.networking.k8s.io, or with an empty
// namespace a cluster-scoped one.
func (s Source) Object(ctx context.Context, namespace, resource, name string, m autoscalingv2.MetricIdentifier) (int64, error) {
	path := resource + "/" + url.PathEscape(name) + "/" + url.PathEscape(m.Name)
	switch {
	case resource == "namespaces":
		path = "namespaces/" + url.PathEscape(name) + "/metrics/" + url.PathEscape(m.Name)
	case namespace != "":
		path = "namespaces/" + url.PathEscape(namespace) + "/" + path
	}
	values, err := s.custom(ctx, path, "", m)
	if err != nil {
		return 0, err
	}
	return values[0].Value.MilliValue(), nil
}

// External reads a metric of nothing in the cluster: the sum of its series.
func (s Source) External(ctx context.Context, namespace string, m autoscalingv2.MetricIdentifier) (int64, error) {
	const failed = "unable to fetch metrics from external metrics API: %w"
	version, err := s.version(ctx, externalGroup, externalVersions)
	if errors.Is(err, errNotServed) {
		err = fmt.Errorf("no external metrics API (%s) registered", externalGroup)
	}
	if err != nil {
		return 0, fmt.Errorf(failed, err)
	}
	query, err := selectors("labelSelector", m.Selector)
	if err != nil {
		return 0, fmt.Errorf(failed, err)
	}
	values, err := s.list(ctx, "/apis/"+externalGroup+"/"+version+"/namespaces/"+url.PathEscape(namespace)+"/"+url.PathEscape(m.Name), query)
	if err != nil {
		return 0, fmt.Errorf(failed, err)
	}
	if len(values) == 0 {
		return 0, errors.New("no metrics returned from external metrics API")
	}
	sum := int64(0)
	for _, v := range values {
		sum += v.Value.MilliValue()
	}
	return sum, nil
}

// custom reads a path of the custom metrics API, at least one value of it.
func (s Source) custom(ctx context.Context, path, selector string, m autoscalingv2.MetricIdentifier) ([]value, error) {
	const failed = "unable to fetch metrics from custom metrics API: %w"
	version, err := s.version(ctx, customGroup, customVersions)
	if errors.Is(err, errNotServed) {
		err = fmt.Errorf("no custom metrics API (%s) registered", customGroup)
	}
	if err != nil {
		return nil, fmt.Errorf(failed, err)
	}
	query, err := selectors("metricLabelSelector", m.Selector)
	if err != nil {
		return nil, fmt.Errorf(failed, err)
	}
	if selector != "" {
		query.Set("labelSelector", selector)
	}
	values, err := s.list(ctx, "/apis/"+customGroup+"/"+version+"/"+path, query)
	if err != nil {
		return nil, fmt.Errorf(failed, err)
	}
	if len(values) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	return values, nil
}

// errNotServed says that nobody serves a group, or none of the versions that are understood.
var errNotServed = errors.New("not served")

// version is the best version of a group that is served.
func (s Source) version(ctx context.Context, group string, understood []string) (string, error) {
	if s.Paths == nil {
		return "", errNotServed
	}
	body, err := s.Paths.Get(ctx, "/apis/"+group)
	if apierrors.IsNotFound(err) {
		return "", errNotServed
	}
	if err != nil {
		return "", err
	}
	var served metav1.APIGroup
	if err := json.Unmarshal(body, &served); err != nil {
		return "", fmt.Errorf("versions of %s: %w", group, err)
	}
	for _, v := range understood {
		if slices.ContainsFunc(served.Versions, func(s metav1.GroupVersionForDiscovery) bool { return s.Version == v }) {
			return v, nil
		}
	}
	return "", errNotServed
}

func (s Source) list(ctx context.Context, path string, query url.Values) ([]value, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	body, err := s.Paths.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []value `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", strings.SplitN(path, "?", 2)[0], err)
	}
	return list.Items, nil
}

// selectors is a query with a label selector, if there is one.
func selectors(key string, selector *metav1.LabelSelector) (url.Values, error) {
	query := url.Values{}
	if selector == nil {
		return query, nil
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err == nil && !s.Empty() {
		query.Set(key, s.String())
	}
	return query, err
}
