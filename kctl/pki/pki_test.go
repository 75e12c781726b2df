package pki

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testHost() Host {
	return Host{NodeName: "host-1", Hostname: "host-1", IPs: []net.IP{net.IPv4(192, 0, 2, 7)}, ServiceIP: net.IPv4(10, 96, 0, 1), ClusterDomain: "cluster.local"}
}

func testLeaves() []Leaf { return append(ControlPlane(testHost()), Node(testHost())...) }

// TestEnsureMakesAWorkingPKI shows that every leaf chains to the authority, for the use and the names that it was made for.
func TestEnsureMakesAWorkingPKI(t *testing.T) {
	store, now := Store{Dir: filepath.Join(t.TempDir(), "pki")}, time.Now()
	made, err := store.Ensure(testLeaves(), now)
	if err != nil || len(made) != len(testLeaves()) {
		t.Fatalf("Ensure made %v, %v", made, err)
	}
	ca, err := store.Load("ca")
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := store.Load(FrontProxyCA)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range testLeaves() {
		roots := x509.NewCertPool()
		roots.AddCert(ca.Cert)
		if leaf.Authority == FrontProxyCA { // and nothing else is
			roots = x509.NewCertPool()
			roots.AddCert(proxies.Cert)
		}
		pair, err := store.Load(leaf.Name)
		if err != nil {
			t.Fatal(err)
		}
		usage := x509.ExtKeyUsageClientAuth
		name := ""
		if !leaf.Client {
			usage, name = x509.ExtKeyUsageServerAuth, "kubernetes.default.svc"
		}
		if _, err := pair.Cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: name}); err != nil {
			t.Errorf("%s: %v", leaf.Name, err)
		}
		if info, _ := os.Stat(store.KeyFile(leaf.Name)); info.Mode().Perm() != 0o600 {
			t.Errorf("the key of %s is readable by others: %v", leaf.Name, info.Mode())
		}
	}
}

// TestEnsureKeepsWhatIsCurrent shows that a second run changes nothing, and that a new address or a near end makes only that leaf anew.
func TestEnsureKeepsWhatIsCurrent(t *testing.T) {
	store, now := Store{Dir: t.TempDir()}, time.Now()
	if _, err := store.Ensure(testLeaves(), now); err != nil {
		t.Fatal(err)
	}
	if made, err := store.Ensure(testLeaves(), now); err != nil || len(made) > 0 {
		t.Fatalf("a second Ensure made %v, %v", made, err)
	}
	h := testHost()
	h.IPs = append(h.IPs, net.IPv4(192, 0, 2, 8))
	if made, err := store.Ensure(ControlPlane(h), now); err != nil || len(made) != 1 || made[0] != APIServer {
		t.Fatalf("with a new address Ensure made %v, %v", made, err)
	}
	later := now.Add(LeafValidity - RenewBefore + time.Hour)
	if made, err := store.Ensure([]Leaf{ControlPlane(h)[1]}, later); err != nil || len(made) != 1 {
		t.Fatalf("near its end Ensure made %v, %v", made, err)
	}
}

// TestUsersFilesAreNeverOverwritten shows that half a pair or a foreign key is an error that names the file, and that the file stays.
func TestUsersFilesAreNeverOverwritten(t *testing.T) {
	store, now := Store{Dir: t.TempDir()}, time.Now()
	if _, err := store.Ensure(testLeaves(), now); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(store.CertFile("ca"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(store.KeyFile("ca"), store.KeyFile("ca")+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Ensure(testLeaves(), now); err == nil {
		t.Error("an authority without its key was accepted")
	}
	if err := os.Rename(store.KeyFile(Admin), store.KeyFile("ca")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Ensure(testLeaves(), now); err == nil {
		t.Error("an authority with another key was accepted")
	}
	if after, _ := os.ReadFile(store.CertFile("ca")); string(after) != string(before) {
		t.Error("the authority's certificate was overwritten")
	}
}

// TestAnAuthoritysKeyIsNeverOverwritten shows that a key without its certificate is an error, and that the key stays.
func TestAnAuthoritysKeyIsNeverOverwritten(t *testing.T) {
	store, now := Store{Dir: t.TempDir()}, time.Now()
	if _, err := store.CA(now); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(store.KeyFile("ca"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(store.CertFile("ca")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CA(now); err == nil || !strings.Contains(err.Error(), "ca.key exists but its certificate") {
		t.Errorf("CA with a lone key: %v", err)
	}
	if after, _ := os.ReadFile(store.KeyFile("ca")); string(after) != string(before) {
		t.Error("the authority's key was overwritten")
	}
}

// TestRenewalIsOneRename shows that a renewed leaf keeps its key, so that no crash can part them, and that a crash in the first
// making is repaired.
func TestRenewalIsOneRename(t *testing.T) {
	store, now := Store{Dir: t.TempDir()}, time.Now()
	leaf := ControlPlane(testHost())[:1]
	if _, err := store.Ensure(leaf, now); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(store.KeyFile(leaf[0].Name))
	if err != nil {
		t.Fatal(err)
	}
	if made, err := store.Ensure(leaf, now.Add(LeafValidity-RenewBefore+time.Hour)); err != nil || len(made) != 1 {
		t.Fatalf("renewal made %v, %v", made, err)
	}
	if after, _ := os.ReadFile(store.KeyFile(leaf[0].Name)); string(after) != string(before) {
		t.Error("the renewal changed the key")
	}
	if err := os.Remove(store.CertFile(leaf[0].Name)); err != nil {
		t.Fatal(err)
	}
	if made, err := store.Ensure(leaf, now); err != nil || len(made) != 1 {
		t.Errorf("after a crash Ensure made %v, %v", made, err)
	}
}

// TestStatusTellsWhatIsWrong shows that status names expired, foreign and broken certificates.
func TestStatusTellsWhatIsWrong(t *testing.T) {
	store, other, now := Store{Dir: t.TempDir()}, Store{Dir: t.TempDir()}, time.Now()
	for _, s := range []Store{store, other} {
		if _, err := s.Ensure(testLeaves(), now); err != nil {
			t.Fatal(err)
		}
	}
	for _, ext := range []string{".crt", ".key"} {
		data, err := os.ReadFile(filepath.Join(other.Dir, Proxy+ext))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(store.Dir, Proxy+ext), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(store.CertFile(DNS), []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := store.Status(now)
	if err != nil {
		t.Fatal(err)
	}
	problems := map[string]bool{}
	for _, st := range list {
		if st.Problem != "" {
			problems[st.Name] = true
		}
	}
	if !problems[Proxy] || !problems[DNS] || len(problems) != 2 {
		t.Errorf("problems = %v, want those of %s and %s", problems, Proxy, DNS)
	}
	if list, _ = store.Status(now.Add(LeafValidity + time.Hour)); list[0].Problem != "expired" {
		t.Errorf("after its end %s is %q", list[0].Name, list[0].Problem)
	}
}
