package clienttest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// pageSize is how many objects one message of a list carries: small, so that tests see several.
const pageSize = 100

// Get implements ResourceService.
func (s *Server) Get(_ context.Context, req *apiv1.GetRequest) (*apiv1.GetResponse, error) {
	if err := s.check("Get", req.GetRef()); err != nil {
		return nil, toGRPC(err)
	}
	resp, err := s.get(req)
	return resp, toGRPC(err)
}

func (s *Server) get(req *apiv1.GetRequest) (*apiv1.GetResponse, error) {
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.state.objects[keyOf(k, req.GetRef())]
	if req.GetVersionMatch() == apiv1.VersionMatch_VERSION_MATCH_EXACT {
		rev, err := parseRevision(req.GetResourceVersion())
		if err != nil {
			return nil, err
		}
		records, ok := s.state.at(k.name, rev)
		if !ok {
			return nil, expired(rev)
		}
		r = nil
		for _, past := range records {
			if client.KeyOf(past.obj) == keyOf(k, req.GetRef()).Key {
				r = past
			}
		}
	}
	if r == nil {
		return nil, notFound(k, req.GetRef().GetName())
	}
	if req.GetRef().GetSubresource() == "scale" {
		wire, err := getScale(r.obj)
		return &apiv1.GetResponse{Object: wire}, err
	}
	if req.GetView() == apiv1.View_VIEW_TABLE {
		return &apiv1.GetResponse{Table: table([]*record{r})}, nil
	}
	return &apiv1.GetResponse{Object: r.wire}, nil
}

// List implements ResourceService.
func (s *Server) List(req *apiv1.ListRequest, stream grpc.ServerStreamingServer[apiv1.ListResponse]) error {
	if err := s.check("List", req.GetRef()); err != nil {
		return toGRPC(err)
	}
	l, err := s.list(req)
	if err != nil {
		return toGRPC(err)
	}
	for first := true; first || len(l.records) > 0; first = false {
		n := min(pageSize, len(l.records))
		resp := &apiv1.ListResponse{Revision: l.rev}
		if req.GetView() == apiv1.View_VIEW_TABLE {
			resp.Table = table(l.records[:n])
			if !first {
				resp.Table.Columns = nil
			}
		} else {
			for _, r := range l.records[:n] {
				resp.Items = append(resp.Items, r.wire)
			}
		}
		if l.records = l.records[n:]; len(l.records) == 0 && l.rest > 0 {
			resp.Continue, resp.RemainingItemCount = l.token, wrapperspb.Int64(int64(l.rest))
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

// listing is a list's answer.
type listing struct {
	rev     client.Revision
	records []*record
	// token goes on where a limited list ended, rest is how many objects are left then.
	token string
	rest  int
}

func (s *Server) list(req *apiv1.ListRequest) (listing, error) {
	k, err := s.kind(req.GetRef())
	if err != nil {
		return listing{}, err
	}
	sel, err := newSelector(k, req.GetRef().GetNamespace(), req.GetLabelSelector(), req.GetFieldSelector())
	if err != nil {
		return listing{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := listing{rev: s.state.revision}
	var after *client.Key
	if req.GetContinue() != "" {
		if l.rev, after, err = parseToken(req.GetContinue()); err != nil {
			return listing{}, err
		}
	} else if req.GetVersionMatch() == apiv1.VersionMatch_VERSION_MATCH_EXACT {
		if l.rev, err = parseRevision(req.GetResourceVersion()); err != nil {
			return listing{}, err
		}
	}
	all, ok := s.state.at(k.name, l.rev)
	if !ok {
		return listing{}, expired(l.rev)
	}
	for _, r := range all {
		if sel.matches(r) && (after == nil || compareKeys(client.KeyOf(r.obj), *after) > 0) {
			l.records = append(l.records, r)
		}
	}
	if limit := int(req.GetLimit()); limit > 0 && len(l.records) > limit {
		l.rest = len(l.records) - limit
		l.records = l.records[:limit]
		l.token = makeToken(l.rev, client.KeyOf(l.records[limit-1].obj))
	}
	return l, nil
}

func makeToken(rev client.Revision, last client.Key) string {
	return fmt.Sprintf("%d|%s|%s", rev, last.Namespace, last.Name)
}

func parseToken(token string) (client.Revision, *client.Key, error) {
	parts := strings.Split(token, "|")
	if len(parts) != 3 {
		return 0, nil, apierrors.NewBadRequest("continue key is not valid")
	}
	rev, err := parseRevision(parts[0])
	return rev, &client.Key{Namespace: parts[1], Name: parts[2]}, err
}

func parseRevision(s string) (client.Revision, error) {
	rev, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion: Invalid value: %q", s))
	}
	return rev, nil
}

// kind finds the kind that ref names.
func (s *Server) kind(ref *apiv1.ResourceRef) (kind, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kinds[resourceName{ref.GetGroup(), ref.GetResource()}]
	if !ok || (ref.GetVersion() != "" && ref.GetVersion() != k.version) {
		return kind{}, apierrors.NewGenericServerResponse(404, "", schema.GroupResource{Group: ref.GetGroup(), Resource: ref.GetResource()},
			"", "the server could not find the requested resource", 0, true)
	}
	return k, nil
}

func keyOf(k kind, ref *apiv1.ResourceRef) objectKey {
	key := objectKey{k.name, client.Key{Namespace: ref.GetNamespace(), Name: ref.GetName()}}
	if !k.namespaced {
		key.Namespace = ""
	}
	return key
}

func groupResource(k kind) schema.GroupResource {
	return schema.GroupResource{Group: k.name.group, Resource: k.name.resource}
}

func notFound(k kind, name string) error { return apierrors.NewNotFound(groupResource(k), name) }

func expired(rev client.Revision) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", rev))
}

// table renders records with the two columns that every kind has.
func table(records []*record) *apiv1.Table {
	t := &apiv1.Table{Columns: []*apiv1.TableColumn{{Name: "Name", Type: "string", Format: "name"}, {Name: "Created At", Type: "date"}}}
	for _, r := range records {
		t.Rows = append(t.Rows, &apiv1.TableRow{
			Cells:     []string{r.obj.GetName(), r.obj.GetCreationTimestamp().UTC().Format(time.RFC3339)},
			Namespace: r.obj.GetNamespace(), Name: r.obj.GetName(), Uid: string(r.obj.GetUID()),
			ResourceVersion: r.obj.GetResourceVersion(), Labels: r.obj.GetLabels(),
		})
	}
	return t
}
