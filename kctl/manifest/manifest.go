// Package manifest reads Kubernetes objects from files, folders and standard input. It splits documents and finds out what each
// one is; it does not judge fields, which is the server's business, and passes each document on as its author wrote it, so
// that duplicate keys and unknown fields reach the server.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// MaxDocument is the largest document that is read: the server's limit for a request body is 3 MiB, and a document that comes
// up to it must reach the server to be refused in the server's words.
const MaxDocument = 4 << 20

// Document is one object as it was written.
type Document struct {
	// Source is the file's name, or "STDIN".
	Source string
	// ContentType is runtime.ContentTypeJSON or runtime.ContentTypeYAML.
	ContentType string
	Data        []byte
	Kind        schema.GroupVersionKind
	// Namespace and Name are the metadata's, perhaps empty. Annotations are the metadata's.
	Namespace, Name, GenerateName string
	Labels                        map[string]string
}

// Read reads every path: "-" is standard input, a folder means its .yaml, .yml and .json files, with recursive those below it too.
// What cannot be read does not stop the rest: it is in the error, which errors.Join made, beside the documents that can be used.
func Read(stdin io.Reader, recursive bool, paths ...string) ([]Document, error) {
	var docs []Document
	var errs []error
	for _, p := range paths {
		found, err := readPath(stdin, p, recursive)
		docs, errs = append(docs, found...), append(errs, err)
	}
	err := errors.Join(errs...)
	if len(docs) == 0 && err == nil {
		return nil, fmt.Errorf("no objects passed: %s held none", strings.Join(paths, ", "))
	}
	return docs, err
}

func readPath(stdin io.Reader, path string, recursive bool) ([]Document, error) {
	if path == "-" {
		return split("STDIN", stdin)
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the path %q does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readFile(path)
	}
	var docs []Document
	var errs []error
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != path && !recursive:
			return filepath.SkipDir
		case d.IsDir() || !isManifest(p):
			return nil
		}
		found, err := readFile(p)
		docs, errs = append(docs, found...), append(errs, err)
		return nil
	})
	return docs, errors.Join(append(errs, err)...)
}

func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func readFile(path string) ([]Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return split(path, f)
}

// guess is how far into a stream the first character that is not white space is looked for.
const guess = 1024

// split cuts a stream of YAML documents or JSON values.
func split(source string, r io.Reader) ([]Document, error) {
	whole, _, isJSON := utilyaml.GuessJSONStream(r, guess)
	buffered := bufio.NewReader(whole)
	next := yamlDocuments(buffered)
	contentType := runtime.ContentTypeYAML
	if isJSON {
		contentType = runtime.ContentTypeJSON
		next = jsonValues(buffered)
	}
	var docs []Document
	var errs []error
	for {
		data, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return docs, errors.Join(errs...)
		case errors.Is(err, errTooLarge):
			errs = append(errs, fmt.Errorf("error parsing %s: %w", source, err))
			continue
		case err != nil: // where the next document would begin is not known
			return docs, errors.Join(append(errs, fmt.Errorf("error parsing %s: %w", source, err))...)
		}
		found, err := parse(source, contentType, data)
		docs, errs = append(docs, found...), append(errs, err)
	}
}

func yamlDocuments(r *bufio.Reader) func() ([]byte, error) {
	reader := utilyaml.NewYAMLReader(r)
	return func() ([]byte, error) {
		data, err := reader.Read()
		if len(data) > MaxDocument {
			return nil, tooLarge(len(data))
		}
		return data, err
	}
}

func jsonValues(r io.Reader) func() ([]byte, error) {
	dec := json.NewDecoder(r)
	return func() ([]byte, error) {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if len(raw) > MaxDocument {
			return nil, tooLarge(len(raw))
		}
		return raw, err
	}
}

var errTooLarge = errors.New("is too large")

func tooLarge(n int) error {
	return fmt.Errorf("a document of %d bytes %w: the limit is %d; split it", n, errTooLarge, MaxDocument)
}

// head is what must be known of a document to address it.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace    string            `json:"namespace"`
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Labels       map[string]string `json:"labels"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

func parse(source, contentType string, data []byte) ([]Document, error) {
	if blank(data) {
		return nil, nil
	}
	asJSON := data
	if contentType == runtime.ContentTypeYAML {
		var err error
		if asJSON, err = yaml.YAMLToJSON(data); err != nil {
			return nil, fmt.Errorf("error parsing %s: error converting YAML to JSON: %w", source, err)
		}
	}
	if string(bytes.TrimSpace(asJSON)) == "null" {
		return nil, nil
	}
	var h head
	if err := json.Unmarshal(asJSON, &h); err != nil {
		// The server words wrong types; only what keeps the document from being addressed is an error here.
		var typeErr *json.UnmarshalTypeError
		if !errors.As(err, &typeErr) || h.Kind == "" {
			return nil, fmt.Errorf("error parsing %s: %w", source, err)
		}
	}
	if h.Kind == "" {
		return nil, fmt.Errorf("error validating %q: Object 'Kind' is missing; set kind", source)
	}
	if h.APIVersion == "" {
		return nil, fmt.Errorf("error validating %q: apiVersion not set; set apiVersion", source)
	}
	gv, err := schema.ParseGroupVersion(h.APIVersion)
	if err != nil {
		return nil, fmt.Errorf("error validating %q: apiVersion: %w", source, err)
	}
	if strings.HasSuffix(h.Kind, "List") && h.Items != nil {
		return parseItems(source, h.Items)
	}
	return []Document{{
		Source: source, ContentType: contentType, Data: data, Kind: gv.WithKind(h.Kind),
		Namespace: h.Metadata.Namespace, Name: h.Metadata.Name, GenerateName: h.Metadata.GenerateName, Labels: h.Metadata.Labels,
	}}, nil
}

func parseItems(source string, items []json.RawMessage) ([]Document, error) {
	var docs []Document
	var errs []error
	for _, item := range items {
		found, err := parse(source, runtime.ContentTypeJSON, item)
		docs, errs = append(docs, found...), append(errs, err)
	}
	return docs, errors.Join(errs...)
}

// blank reports whether a YAML document holds only comments and white space.
func blank(data []byte) bool {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && string(line) != "---" {
			return false
		}
	}
	return true
}
