package rest

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"
)

func jsonToYAML(j []byte) ([]byte, error) {
	b, err := yaml.JSONToYAML(j)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return b, nil
}
