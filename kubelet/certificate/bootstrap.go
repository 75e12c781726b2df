package certificate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bareboat.dev/client"
)

// The files in the certificates' directory that hold the client certificate in use and its key, and the server certificate and its key,
// under upstream's names.
const (
	CurrentFile        = "kubelet-client-current.pem"
	CurrentServingFile = "kubelet-server-current.pem"
)

// Joining is how a node that has no certificate yet gets one.
type Joining struct {
	// Bootstrap is a kubeconfig with a token that may ask for a node's certificate.
	Bootstrap string
	// Kubeconfig is the file to write, with the certificate in Dir.
	Kubeconfig, Dir string
	Node            string
	Log             *slog.Logger
}

// Join gets the node its first certificate and writes its kubeconfig, unless there is one whose certificate is still good. It waits
// until the request is answered, or ctx ends.
func Join(ctx context.Context, j Joining) error {
	if joined(j.Kubeconfig) {
		return nil
	}
	cfg, err := client.LoadConfig(j.Bootstrap, "")
	if err != nil {
		return fmt.Errorf("--bootstrap-kubeconfig: %w", err)
	}
	cfg.UserAgent = "kubelet"
	c, err := client.Dial(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	return j.join(ctx, c, cfg)
}

func (j Joining) join(ctx context.Context, c *client.Client, cfg *client.Config) error {
	current := filepath.Join(j.Dir, CurrentFile)
	for {
		j.Log.Info("asking for this node's first client certificate", "node", j.Node)
		cert, err := obtain(ctx, c, wanted{node: j.Node}, current+".next", func(cert, key []byte) error { return install(current, current, cert, key) })
		if err == nil {
			j.Log.Info("joined", "node", j.Node, "file", current, "ends", cert.NotAfter)
			return j.write(cfg, current)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		j.Log.Error("no client certificate", "node", j.Node, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// joined reports whether a kubeconfig names a certificate that has not ended. One that cannot be read has to be made anew.
func joined(kubeconfig string) bool {
	cfg, err := client.LoadConfig(kubeconfig, "")
	if err != nil {
		return false
	}
	data := cfg.CertData
	if cfg.CertFile != "" {
		if data, err = os.ReadFile(cfg.CertFile); err != nil {
			return false
		}
	}
	cert, err := parseCertificate(data)
	return err == nil && time.Now().Before(cert.NotAfter)
}

// write makes the node's kubeconfig: the cluster of the one with the token, and the certificate.
func (j Joining) write(cfg *client.Config, cert string) error {
	type object = map[string]any
	urls := make([]string, len(cfg.Endpoints))
	for i, e := range cfg.Endpoints {
		urls[i] = e
		if !strings.Contains(e, "://") {
			urls[i] = "https://" + e
		}
	}
	cluster := object{"server": urls[0]}
	if len(urls) > 1 {
		cluster["extensions"] = []object{{"name": "bareboat.dev/endpoints", "extension": object{"endpoints": urls}}}
	}
	switch {
	case len(cfg.CAData) > 0:
		cluster["certificate-authority-data"] = cfg.CAData
	case cfg.CAFile != "":
		cluster["certificate-authority"] = cfg.CAFile
	}
	if cfg.ServerName != "" {
		cluster["tls-server-name"] = cfg.ServerName
	}
	data, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "default",
		"clusters": []object{{"name": "default", "cluster": cluster}},
		"users":    []object{{"name": "node", "user": object{"client-certificate": cert, "client-key": cert}}},
		"contexts": []object{{"name": "default", "context": object{"cluster": "default", "user": "node"}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(j.Kubeconfig, append(data, '\n'))
}
