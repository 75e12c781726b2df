// Command web is the guest book's front: a page, and the middle tier's JSON under /api/.
package main

import (
	"html/template"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

// page is the whole user interface.
const page = `<!doctype html><meta charset=utf-8><title>{{.Title}}</title>
<style>body{font:16px system-ui;max-width:40em;margin:3em auto}li{margin:.3em 0}small{color:#777}</style>
<h1>{{.Title}}</h1>
<form onsubmit="fetch('api/entries',{method:'POST',body:t.value}).then(load);t.value='';return false"><input id=t size=50 autofocus><button>Sign</button></form>
<ul id=l></ul><small>page from {{.Name}}, entries from <span id=s></span></small>
<script>const t=document.getElementById('t');function load(){fetch('api/entries').then(r=>r.json()).then(d=>{
l.replaceChildren(...d.entries.map(e=>Object.assign(document.createElement('li'),{textContent:e})));s.textContent=d.servedBy})}load()</script>`

func main() {
	api, err := url.Parse(os.Getenv("API_URL"))
	if err != nil || api.Host == "" {
		log.Fatalf("API_URL %q is not a URL with a host", os.Getenv("API_URL"))
	}
	name := os.Getenv("POD_NAME")
	// A connection for each request, so that every replica behind the service gets its share.
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(api) }, Transport: &http.Transport{DisableKeepAlives: true}}
	t := template.Must(template.New("page").Parse(page))
	mux := http.NewServeMux()
	mux.Handle("/api/", http.StripPrefix("/api", proxy))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_ = t.Execute(w, map[string]string{"Title": os.Getenv("TITLE"), "Name": name})
	})
	log.Fatal(http.ListenAndServe(":8080", served(name, mux)))
}

// served says in a header which replica answered.
func served(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", name)
		next.ServeHTTP(w, r)
	})
}
