package rest

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/aggregator"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// discoveryRoutes serves what is served, in both forms: group by group, and all at once (KEP-3352).
func (h *Handler) discoveryRoutes() {
	h.known("GET /{$}", h.index)
	h.listed("GET /api", func(w http.ResponseWriter, r *http.Request) {
		if aggregated(r) {
			h.aggregated(w, r, func(g string) bool { return g == "" })
			return
		}
		h.reply(w, r, &metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: localAddress(r)}},
		})
	})
	h.listed("GET /apis", func(w http.ResponseWriter, r *http.Request) {
		if aggregated(r) {
			h.aggregated(w, r, func(g string) bool { return g != "" })
			return
		}
		list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
		for _, g := range h.groups() {
			if g != "" {
				list.Groups = append(list.Groups, h.group(g))
			}
		}
		list.Groups = h.withRemote(list.Groups)
		h.reply(w, r, list)
	})
	h.listed("GET /apis/{group}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("group")
		g, ok := h.remoteGroup(name)
		if _, here := h.cfg.Pipeline.Set().Versions()[name]; here {
			g = h.group(name)
			for _, both := range h.withRemote([]metav1.APIGroup{g}) {
				if both.Name == name {
					g = both
				}
			}
		} else if !ok {
			h.fail(w, r, notFound())
			return
		}
		g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		h.reply(w, r, &g)
	})
	h.listed("GET /api/{version}", func(w http.ResponseWriter, r *http.Request) { h.resources(w, r, "", r.PathValue("version")) })
	h.listed("GET /apis/{group}/{version}", func(w http.ResponseWriter, r *http.Request) {
		h.resources(w, r, r.PathValue("group"), r.PathValue("version"))
	})
}

// listed serves a path of discovery, also with a slash at its end.
func (h *Handler) listed(pattern string, serve http.HandlerFunc) {
	h.known(pattern, serve)
	h.known(pattern+"/{$}", serve)
}

// known serves a path whose answer depends on what is served; while the server starts it waits until that is known.
func (h *Handler) known(pattern string, serve http.HandlerFunc) {
	h.paths.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.cfg.Pipeline.WaitSet(r.Context()); err != nil {
			h.fail(w, r, err)
			return
		}
		serve(w, r)
	})
}

func localAddress(r *http.Request) string {
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return a.String()
	}
	return r.Host
}

// index lists the paths at which something is to be found, as Kubernetes does at its root.
func (h *Handler) index(w http.ResponseWriter, r *http.Request) {
	paths := []string{"/api", "/apis", "/apis/", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/readyz", "/version"}
	if h.cfg.Issuer != nil {
		paths = append(paths, "/.well-known/openid-configuration", "/openid/v1/jwks")
	}
	for group, versions := range h.cfg.Pipeline.Set().Versions() {
		prefix := "/api"
		if group != "" {
			prefix = "/apis/" + group
			paths = append(paths, prefix)
		}
		for _, v := range versions {
			paths = append(paths, prefix+"/"+v)
		}
	}
	for _, g := range h.remoteGroups() {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+g.Name+"/"+v.Version)
		}
	}
	slices.Sort(paths)
	h.reply(w, r, &metav1.RootPaths{Paths: slices.Compact(paths)})
}

// groups are the groups in the order of their priorities.
func (h *Handler) groups() []string {
	var out []string
	for _, r := range h.cfg.Pipeline.Set().All() {
		if !slices.Contains(out, r.Kind.Group) {
			out = append(out, r.Kind.Group)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(aggregator.Priority(b), aggregator.Priority(a)), strings.Compare(a, b))
	})
	return out
}

func (h *Handler) group(name string) metav1.APIGroup {
	g := metav1.APIGroup{Name: name}
	for _, v := range h.cfg.Pipeline.Set().Versions()[name] {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: schema.GroupVersion{Group: name, Version: v}.String(), Version: v})
	}
	g.PreferredVersion = g.Versions[0]
	return g
}

func (h *Handler) resources(w http.ResponseWriter, r *http.Request, group, version string) {
	gv := schema.GroupVersion{Group: group, Version: version}
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	for _, res := range h.cfg.Pipeline.Set().All() {
		if res.Kind.GroupVersion() == gv {
			list.APIResources = append(list.APIResources, apiResources(res)...)
		}
	}
	if len(list.APIResources) == 0 {
		h.fail(w, r, notFound())
		return
	}
	slices.SortFunc(list.APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	h.reply(w, r, list)
}

// apiResources describes a resource and its subresources.
func apiResources(res *registry.Resource) []metav1.APIResource {
	out := []metav1.APIResource{{
		Name: res.Plural, SingularName: res.Singular, Namespaced: res.Namespaced, Kind: res.Kind.Kind, Verbs: pipeline.Verbs(res),
		ShortNames: res.ShortNames, Categories: res.Categories, StorageVersionHash: storageHash(storedKind(res)),
	}}
	for _, name := range slices.Sorted(maps.Keys(res.Subresources)) {
		sub, kind := res.Subresources[name], res.Subresources[name].Kind
		r := metav1.APIResource{Name: res.Plural + "/" + name, Namespaced: res.Namespaced, Kind: res.Kind.Kind, Verbs: sub.Verbs}
		if !kind.Empty() {
			r.Kind = kind.Kind
			if kind.GroupVersion() != res.Kind.GroupVersion() {
				r.Group, r.Version = kind.Group, kind.Version
			}
		}
		out = append(out, r)
	}
	return out
}

// storedKind is the kind that a resource's objects are kept as.
func storedKind(res *registry.Resource) schema.GroupVersionKind {
	if res.Stored != nil {
		return res.Stored.Kind
	}
	return res.Kind
}

// storageHash tells clients whether the version in which a kind is stored has changed, in the form that Kubernetes gives it.
func storageHash(kind schema.GroupVersionKind) string {
	sum := sha256.Sum256([]byte(kind.Group + "/" + kind.Version + "/" + kind.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

func aggregated(r *http.Request) bool {
	for _, a := range accepted(r.Header.Get("Accept")) {
		if a.media == codec.JSON && a.params["as"] == "APIGroupDiscoveryList" && a.params["g"] == "apidiscovery.k8s.io" && a.params["v"] == "v2" {
			return true
		}
	}
	return false
}

func (h *Handler) aggregated(w http.ResponseWriter, r *http.Request, want func(group string) bool) {
	list := &discoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}}
	for _, g := range h.groups() {
		if !want(g) {
			continue
		}
		d := discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g}}
		for _, v := range h.cfg.Pipeline.Set().Versions()[g] {
			d.Versions = append(d.Versions, h.versionDiscovery(schema.GroupVersion{Group: g, Version: v}))
		}
		list.Items = append(list.Items, d)
	}
	if !want("") {
		list.Items = h.withRemoteDiscovery(list.Items)
	}
	b, err := json.Marshal(list)
	if err != nil {
		h.fail(w, r, apierrors.NewInternalError(err))
		return
	}
	sum := sha512.Sum512(b)
	h.cached(w, r, aggregatedType, fmt.Sprintf("%X", sum), b)
}

// cached answers 304 to clients that have the document already.
func (h *Handler) cached(w http.ResponseWriter, r *http.Request, contentType, tag string, b []byte) {
	w.Header().Set("ETag", `"`+tag+`"`)
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "public")
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.write(w, r, http.StatusOK, contentType, b)
}

func (h *Handler) versionDiscovery(gv schema.GroupVersion) discoveryv2.APIVersionDiscovery {
	d := discoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: discoveryv2.DiscoveryFreshnessCurrent}
	for _, res := range h.cfg.Pipeline.Set().All() {
		if res.Kind.GroupVersion() != gv {
			continue
		}
		scope := discoveryv2.ScopeCluster
		if res.Namespaced {
			scope = discoveryv2.ScopeNamespace
		}
		r := discoveryv2.APIResourceDiscovery{
			Resource: res.Plural, ResponseKind: responseKind(res.Kind), Scope: scope, SingularResource: res.Singular,
			Verbs: pipeline.Verbs(res), ShortNames: res.ShortNames, Categories: res.Categories,
		}
		for _, name := range slices.Sorted(maps.Keys(res.Subresources)) {
			kind := res.Subresources[name].Kind
			if kind.Empty() {
				kind = res.Kind
			}
			r.Subresources = append(r.Subresources, discoveryv2.APISubresourceDiscovery{
				Subresource: name, ResponseKind: responseKind(kind), Verbs: res.Subresources[name].Verbs,
			})
		}
		d.Resources = append(d.Resources, r)
	}
	slices.SortFunc(d.Resources, func(a, b discoveryv2.APIResourceDiscovery) int { return strings.Compare(a.Resource, b.Resource) })
	return d
}

func responseKind(k schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}

// reply sends a document as JSON.
func (h *Handler) reply(w http.ResponseWriter, r *http.Request, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		h.fail(w, r, apierrors.NewInternalError(err))
		return
	}
	h.write(w, r, http.StatusOK, codec.JSON, append(b, '\n'))
}
