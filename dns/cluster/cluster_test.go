package cluster_test

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/dns/cluster"
	"bareboat.dev/dns/zone"
)

func ptr[T any](v T) *T { return &v }

// The mirror answers the zone's questions from the API's objects, follows changes, and goes on when the API is away.
func TestMirror(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("", func(t *testing.T) {
		api := clienttest.NewServer(t)
		c := api.Client()
		ctx, cancel := context.WithCancel(t.Context())
		must := func(err error) {
			if err != nil {
				t.Helper()
				t.Fatal(err)
			}
		}
		_, err := client.Of(c, client.Namespaces()).Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		must(err)
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}}
		svc.Spec = corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Name: "pg", Port: 5432}}}
		_, err = client.Of(c, client.Services()).Create(ctx, svc)
		must(err)
		_, err = client.Of(c, client.EndpointSlices()).Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "db-x", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr("pg"), Port: ptr(int32(5432))}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.6"}, Hostname: ptr("db-0")}},
		})
		must(err)

		m := cluster.New(c, slog.New(slog.DiscardHandler))
		if m.Synced() {
			t.Error("synced before Run")
		}
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		must(m.WaitSynced(ctx))
		z := zone.Zone{Domain: "cluster.local."}
		ask := func(name string, qt uint16) int { return len(z.Answer(m, zone.Question{Name: name, Type: qt}).Records) }
		check := func() {
			t.Helper()
			for name, qt := range map[string]uint16{
				"db.shop.svc.cluster.local.": dns.TypeA, "db-0.db.shop.svc.cluster.local.": dns.TypeA, "6.0.244.10.in-addr.arpa.": dns.TypePTR,
				"_pg._tcp.db.shop.svc.cluster.local.": dns.TypeSRV, "10-244-0-6.shop.pod.cluster.local.": dns.TypeA,
			} {
				if ask(name, qt) != 1 {
					t.Errorf("%s: %d records", name, ask(name, qt))
				}
			}
		}
		check()
		web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
		web.Spec = corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}}
		_, err = client.Of(c, client.Services()).Create(ctx, web)
		must(err)
		must(m.WaitService(ctx, api.Revision()))
		if len(m.ServicesAt(netip.MustParseAddr("10.96.0.7"))) != 1 || ask("web.shop.svc.cluster.local.", dns.TypeA) != 1 {
			t.Error("the new service is not known")
		}
		api.Disconnect()
		check()
		cancel()
		must(<-done)
	})
}
