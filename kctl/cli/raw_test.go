package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bareboat.dev/client"
)

// What only the REST door has is read there: raw paths and the documents that explain describes kinds from.
func TestRESTDoor(t *testing.T) {
	m := newModel(t)
	doors := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/readyz?verbose":
			fmt.Fprint(w, "ok\n")
		case "/openapi/v3":
			fmt.Fprint(w, `{"paths":{"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=1"}}}`)
		case "/openapi/v3/apis/apps/v1?hash=1":
			fmt.Fprint(w, `{"components":{"schemas":{"D":{"description":"Many pods.","properties":{"spec":{"type":"object"}},"x-kubernetes-group-version-kind":[{"group":"apps","version":"v1","kind":"Deployment"}]}}}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(doors.Close)
	m.config = client.Config{Endpoints: []string{doors.URL}, Insecure: true}
	for args, want := range map[string]string{
		"get --raw /readyz?verbose":            "ok\n",
		"get --raw /nowhere":                   "Error from server (NotFound): the server could not find the requested resource\n",
		"get pods --raw /readyz":               "error: arguments may not be passed when --raw is specified\n",
		"explain deploy":                       "GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\nDESCRIPTION:\n    Many pods.\n    \nFIELDS:\n  spec\t<Object>\n    <no description>\n\n\n",
		"explain deployments.apps.spec":        "GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\nFIELD: spec <Object>\n\n\nDESCRIPTION:\n    <empty>\n\n",
		"explain deploy.sepc":                  "error: field \"sepc\" does not exist\n",
		"explain gizmo.spec":                   "error: the server doesn't have a resource type \"gizmo\"\n",
		"explain deploy --api-version=apps/v9": "error: couldn't find resource \"deployments\" in version \"apps/v9\"\n",
		"explain pod":                          "error: the server publishes no OpenAPI document of v1\n",
		"api-versions":                         "apps/v1\nv1\n",
		"cluster-info":                         "Kubernetes control plane is running at " + doors.URL + "\n",
	} {
		if out, errOut, _ := m.run("", strings.Fields(args)...); out+errOut != want {
			t.Errorf("kctl %s: %q, want %q", args, out+errOut, want)
		}
	}
}
