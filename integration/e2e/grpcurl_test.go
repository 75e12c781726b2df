package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"bareboat.dev/integration/host"
	"bareboat.dev/kctl/pki"
)

// TestReflection shows that a client that knows nothing of the API but its address and has a certificate finds the services, learns their
// messages and calls them, as grpcurl does; that a node may do so, too, but gets no more than a node may have; and that a stranger gets health only.
func TestReflection(t *testing.T) {
	h := up(t, "reflection")
	t.Run("Administrator", func(t *testing.T) {
		c := dialGRPC(t, h, pki.Admin)
		services := c.services(t)
		for _, want := range []string{"bareboat.api.v1.ResourceService", "bareboat.api.v1.DiscoveryService", "bareboat.node.v1.NodeService", "grpc.health.v1.Health"} {
			if !slices.Contains(services, want) {
				t.Errorf("%s is missing in %q", want, services)
			}
		}
		pages, err := c.list(t, `{"ref": {"version": "v1", "resource": "namespaces"}}`)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, page := range pages {
			items := page.Get(page.Descriptor().Fields().ByName("items")).List()
			found = found || items.Len() > 0
		}
		if !found {
			t.Errorf("no namespace in %v", pages)
		}
	})
	t.Run("Node", func(t *testing.T) {
		c := dialGRPC(t, h, pki.Kubelet)
		if services := c.services(t); !slices.Contains(services, "bareboat.api.v1.ResourceService") {
			t.Errorf("a node sees %q", services)
		}
		if _, err := c.list(t, `{"ref": {"version": "v1", "resource": "pods"}, "fieldSelector": "spec.nodeName=reflection"}`); err != nil {
			t.Errorf("a node's own pods: %v", err)
		}
		for _, request := range []string{`{"ref": {"version": "v1", "resource": "secrets"}}`, `{"ref": {"version": "v1", "resource": "pods"}}`} {
			if _, err := c.list(t, request); status.Code(err) != codes.PermissionDenied {
				t.Errorf("a node listing %s: %v", request, err)
			}
		}
	})
	t.Run("Stranger", func(t *testing.T) {
		c := dialGRPC(t, h, "")
		if _, err := c.ask(t, listServices()); status.Code(err) != codes.PermissionDenied {
			t.Errorf("reflection: %v", err)
		}
		answer, err := healthpb.NewHealthClient(c.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health: %v, %v", answer, err)
		}
	})
}

// reflectionClient calls services that it learns of from the server.
type reflectionClient struct{ conn *grpc.ClientConn }

// dialGRPC connects with one of the cluster's certificates, or none.
func dialGRPC(t *testing.T, h *host.Host, certificate string) reflectionClient {
	t.Helper()
	read := func(path string) []byte {
		content, err := h.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(content)
	}
	store := pki.Store{Dir: "/etc/bareboat/pki"}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "kubernetes", MinVersion: tls.VersionTLS13}
	cfg.RootCAs.AppendCertsFromPEM(read(store.CertFile("ca")))
	if certificate != "" {
		pair, err := tls.X509KeyPair(read(store.CertFile(certificate)), read(store.KeyFile(certificate)))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	conn, err := grpc.NewClient("passthrough:///"+h.IP+":6443", grpc.WithTransportCredentials(credentials.NewTLS(cfg)), grpc.WithContextDialer(h.Dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return reflectionClient{conn}
}

func listServices() *reflectionpb.ServerReflectionRequest {
	return &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
}

// ask sends one question and returns its answer.
func (c reflectionClient) ask(t *testing.T, question *reflectionpb.ServerReflectionRequest) (*reflectionpb.ServerReflectionResponse, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(c.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	// The answer tells why, should the server end the stream before it has read the question.
	if err := stream.Send(question); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.Recv()
}

func (c reflectionClient) services(t *testing.T) (names []string) {
	t.Helper()
	answer, err := c.ask(t, listServices())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names
}

// method looks up a method as the server describes it.
func (c reflectionClient) method(t *testing.T, service protoreflect.FullName, name protoreflect.Name) protoreflect.MethodDescriptor {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	c.collect(t, set, seen, &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: string(service)},
	})
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.FindDescriptorByName(service)
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.ServiceDescriptor).Methods().ByName(name)
}

// collect gets the files that answer a question, and those that they import.
func (c reflectionClient) collect(t *testing.T, set *descriptorpb.FileDescriptorSet, seen map[string]bool, question *reflectionpb.ServerReflectionRequest) {
	t.Helper()
	answer, err := c.ask(t, question)
	if err != nil {
		t.Fatal(err)
	}
	if e := answer.GetErrorResponse(); e != nil {
		t.Fatalf("%v: %s", question, e.GetErrorMessage())
	}
	var added []*descriptorpb.FileDescriptorProto
	for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, file); err != nil {
			t.Fatal(err)
		}
		if !seen[file.GetName()] {
			seen[file.GetName()] = true
			set.File, added = append(set.File, file), append(added, file)
		}
	}
	for _, file := range added {
		for _, dep := range file.GetDependency() {
			if !seen[dep] {
				c.collect(t, set, seen, &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: dep}})
			}
		}
	}
}

// list calls ResourceService.List with a request in JSON, knowing only what the server says of it.
func (c reflectionClient) list(t *testing.T, request string) (pages []protoreflect.Message, err error) {
	t.Helper()
	m := c.method(t, "bareboat.api.v1.ResourceService", "List")
	in := dynamicpb.NewMessage(m.Input())
	if err := (protojson.UnmarshalOptions{Resolver: new(protoregistry.Types)}).Unmarshal([]byte(request), in); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+string(m.Parent().FullName())+"/"+string(m.Name()))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for {
		out := dynamicpb.NewMessage(m.Output())
		switch err := stream.RecvMsg(out); {
		case errors.Is(err, io.EOF):
			return pages, nil
		case err != nil:
			return pages, err
		}
		pages = append(pages, out)
	}
}
