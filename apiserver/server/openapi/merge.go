package openapi

import (
	"encoding/json"
	"fmt"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// merged is the document of version 2 together with those of other servers.
type merged struct {
	of   string
	json Document
	// proto is made when first asked for.
	proto Document
}

// V2With is V2 together with other servers' documents. Paths that are described here, or by an earlier one, stay as they are; definitions
// of one name that differ get another name in the later document, as in Kubernetes. One that is no document is left out.
func (d *Documents) V2With(others []Document, asProto bool) (Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	own, err := d.v2Locked()
	if err != nil {
		return Document{}, err
	}
	key := own.Tag
	for _, o := range others {
		key += " " + o.Tag
	}
	if d.merged.of != key {
		doc, err := merge(own, others)
		if err != nil {
			return Document{}, err
		}
		d.merged = merged{of: key, json: doc}
	}
	if !asProto {
		return d.merged.json, nil
	}
	if d.merged.proto.Body == nil {
		if d.merged.proto, err = protoOf(d.merged.json); err != nil {
			return Document{}, err
		}
	}
	return d.merged.proto, nil
}

func merge(own Document, others []Document) (Document, error) {
	var all spec.Swagger
	if err := json.Unmarshal(own.Body, &all); err != nil {
		return Document{}, fmt.Errorf("openapi: %w", err)
	}
	for _, o := range others {
		var more spec.Swagger
		if json.Unmarshal(o.Body, &more) != nil {
			continue
		}
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(&all, &more); err != nil {
			return Document{}, fmt.Errorf("openapi: %w", err)
		}
	}
	return newDocument(&all)
}
