package podspec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// overlaps warns of files of one volume that hide each other, or are folders of each other.
func (w *warner) overlaps(v *corev1.Volume) {
	switch {
	case v.ConfigMap != nil:
		w.overlap(keyPaths(v.ConfigMap.Items), fmt.Sprintf("volume %q (ConfigMap %q)", v.Name, v.ConfigMap.Name))
	case v.Secret != nil:
		w.overlap(keyPaths(v.Secret.Items), fmt.Sprintf("volume %q (Secret %q)", v.Name, v.Secret.SecretName))
	case v.DownwardAPI != nil:
		w.overlap(filePaths(v.DownwardAPI.Items), fmt.Sprintf("volume %q (DownwardAPI)", v.Name))
	case v.Projected != nil:
		w.projected(v)
	}
}

func (w *warner) projected(v *corev1.Volume) {
	var all []string
	for i := range v.Projected.Sources {
		s := &v.Projected.Sources[i]
		if reflect.ValueOf(*s).IsZero() {
			w.list = append(w.list, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			continue
		}
		paths, what := projection(s)
		what = fmt.Sprintf("volume %q (Projected %s)", v.Name, what)
		w.overlap(paths, what)
		slices.Sort(paths)
		paths = slices.Compact(paths)
		if len(paths) > 0 && len(all) > 0 {
			both := append(slices.Clone(paths), all...)
			slices.Sort(both)
			w.overlap(both, what)
		}
		all = append(all, paths...)
	}
}

// projection returns the files that a source makes, and what it is called.
func projection(s *corev1.VolumeProjection) (paths []string, what string) {
	switch {
	case s.ConfigMap != nil:
		return keyPaths(s.ConfigMap.Items), fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name)
	case s.Secret != nil:
		return keyPaths(s.Secret.Items), fmt.Sprintf("Secret %q", s.Secret.Name)
	case s.DownwardAPI != nil:
		return filePaths(s.DownwardAPI.Items), "DownwardAPI"
	case s.ServiceAccountToken != nil:
		return []string{s.ServiceAccountToken.Path}, "ServiceAccountToken"
	case s.ClusterTrustBundle != nil:
		name := s.ClusterTrustBundle.Name
		if name == nil {
			name = s.ClusterTrustBundle.SignerName
		}
		if name == nil {
			return nil, ""
		}
		return []string{s.ClusterTrustBundle.Path}, fmt.Sprintf("ClusterTrustBundle %q", *name)
	}
	return nil, ""
}

func keyPaths(items []corev1.KeyToPath) []string {
	var paths []string
	for _, item := range items {
		paths = append(paths, item.Path)
	}
	return paths
}

func filePaths(items []corev1.DownwardAPIVolumeFile) []string {
	var paths []string
	for _, item := range items {
		paths = append(paths, item.Path)
	}
	return paths
}

func (w *warner) overlap(paths []string, what string) {
	var seen []string
	for _, p := range paths {
		p = strings.TrimRight(p, "/")
		for _, other := range seen {
			if p != "" && other != "" && (p == other || strings.HasPrefix(other+"/", p+"/") || strings.HasPrefix(p+"/", other+"/")) {
				w.list = append(w.list, fmt.Sprintf("%s: overlapping paths: %q with %q", what, p, other))
				break
			}
		}
		seen = append(seen, p)
	}
}
