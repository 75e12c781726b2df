package cluster

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
)

func testOptions() Options {
	return Options{
		NodeName: "host", NodeIP: netip.MustParseAddr("192.0.2.7"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), ClusterDomain: "cluster.local", Port: 6443, ProxyMode: "iptables",
	}
}

// TestOptionsNameTheFlag shows that each bad choice is an error that begins with its flag.
func TestOptionsNameTheFlag(t *testing.T) {
	if err := testOptions().Validate(); err != nil {
		t.Fatalf("good options: %v", err)
	}
	tests := map[string]func(*Options){
		"--node-ip":      func(o *Options) { o.NodeIP = netip.MustParseAddr("127.0.0.1") },
		"--service-cidr": func(o *Options) { o.ServiceCIDR = netip.MustParsePrefix("10.96.0.0/30") },
		"--pod-cidr":     func(o *Options) { o.PodCIDR = netip.MustParsePrefix("192.0.2.0/24") },
		"--proxy-mode":   func(o *Options) { o.ProxyMode = "ipvs" },
	}
	for flag, spoil := range tests {
		o := testOptions()
		spoil(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), flag) {
			t.Errorf("%s: error %v", flag, err)
		}
	}
}

// TestPortTaken shows that a port in use is an error that names the port and who holds it.
func TestPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	number := uint16(ln.Addr().(*net.TCPAddr).Port)
	err = portFree(port{"apiserver", number})
	if err == nil || !strings.Contains(err.Error(), "cluster.test (pid") {
		t.Errorf("error = %v, want one that names this process", err)
	}
}

// TestPrepareWritesUsableFiles shows that a kubeconfig written here is read by the client, and that daemons' files carry a version and kind.
func TestPrepareWritesUsableFiles(t *testing.T) {
	dir := t.TempDir()
	l := Layout{Etc: dir + "/etc", State: dir + "/state", Kubelet: dir + "/kubelet"}
	var out strings.Builder
	if err := prepare(l, testOptions(), &out); err != nil {
		t.Fatal(err)
	}
	cfg, err := client.LoadConfig(l.Kubeconfig("admin"), "")
	if err != nil || len(cfg.Endpoints) != 1 || !strings.Contains(cfg.Endpoints[0], "192.0.2.7:6443") || len(cfg.CertData) == 0 {
		t.Errorf("admin.conf reads as %+v, %v", cfg, err)
	}
	for _, d := range Daemons() {
		data, err := os.ReadFile(l.Config(d))
		if err != nil {
			t.Fatal(err)
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(data, &head); err != nil || head.APIVersion != configVersion || !strings.HasSuffix(head.Kind, "Configuration") {
			t.Errorf("%s.yaml: %+v, %v", d, head, err)
		}
	}
	before, _ := filepath.Glob(l.Etc + "/*")
	out.Reset()
	if err := prepare(l, testOptions(), &out); err != nil || out.Len() > 0 {
		t.Errorf("a second prepare said %q, %v", out.String(), err)
	}
	if after, _ := filepath.Glob(l.Etc + "/*"); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("a second prepare made files: %v", after)
	}
}

// TestUnitsOfThisRepository shows that each daemon's unit file starts that daemon with its configuration file.
func TestUnitsOfThisRepository(t *testing.T) {
	lib := t.TempDir()
	units, err := filepath.Abs("../../deploy/systemd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(units, filepath.Join(lib, "systemd")); err != nil {
		t.Fatal(err)
	}
	for _, d := range Daemons() {
		u, err := readUnit(Layout{Lib: lib}, d)
		if err != nil {
			t.Fatal(err)
		}
		if u.args[0] != lib+"/bin/"+d || u.args[1] != "--config=/etc/bareboat/"+d+".yaml" {
			t.Errorf("%s is started as %v", d, u.args)
		}
	}
}
