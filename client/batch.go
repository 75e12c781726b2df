package client

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// maxBatchOps is the most operations in one request, as BatchRequest declares.
	maxBatchOps = 1000
	// maxBatchBytes bounds one request: 3 MiB stays below the 4 MiB that gRPC servers accept by default, with room for
	// the frame around the operations. A single larger operation goes out alone, for the server to judge.
	maxBatchBytes = 3 << 20
)

// Op is one operation of a batch; see CreateOp and its neighbours.
type Op struct {
	wire *apiv1.Operation
	err  error
}

// OpResult answers one Op.
type OpResult struct {
	// Err is nil, an error as the unary call would have returned, or what kept the request from being answered.
	Err error
	// Object is what the operation returned, nil after an error; unpack it with Kind.Decode.
	Object *anypb.Any
	// Warnings for the user.
	Warnings []string
	// Unchanged is true if nothing was written because nothing changed.
	Unchanged bool
}

// Batch runs independent operations and returns one result each, in the order of ops. More than 1,000 operations, or more
// than 3 MiB, are sent as several requests one after another. The returned error is the first request's that was not
// answered as a whole; each of its operations, and of the requests after it, has it in Err too and may or may not have been
// carried out.
func (c *Client) Batch(ctx context.Context, ops ...Op) ([]OpResult, error) {
	return c.batch(ctx, ops, false)
}

// BatchOmit is Batch without objects in the results, for writers that watch what they write.
func (c *Client) BatchOmit(ctx context.Context, ops ...Op) ([]OpResult, error) {
	return c.batch(ctx, ops, true)
}

func (c *Client) batch(ctx context.Context, ops []Op, omit bool) ([]OpResult, error) {
	results := make([]OpResult, len(ops))
	for start := 0; start < len(ops); {
		wire, index, next := nextBatch(ops, start, results)
		start = next
		if len(wire) == 0 {
			continue
		}
		if err := c.sendBatch(ctx, &apiv1.BatchRequest{Operations: wire, OmitObjects: omit}, index, results); err != nil {
			for i := start; i < len(ops); i++ {
				results[i].Err = err
			}
			return results, err
		}
	}
	return results, nil
}

// nextBatch gathers operations from start on up to the limits of one request. Operations that could not be encoded get
// their error and are left out; index maps the request's operations to ops.
func nextBatch(ops []Op, start int, results []OpResult) (wire []*apiv1.Operation, index []int, next int) {
	bytes := 0
	for next = start; next < len(ops) && len(wire) < maxBatchOps; next++ {
		op := ops[next]
		if op.err != nil {
			results[next].Err = op.err
			continue
		}
		size := proto.Size(op.wire)
		if len(wire) > 0 && bytes+size > maxBatchBytes {
			break
		}
		bytes += size
		wire, index = append(wire, op.wire), append(index, next)
	}
	return wire, index, next
}

func (c *Client) sendBatch(ctx context.Context, req *apiv1.BatchRequest, index []int, results []OpResult) error {
	resp, err := c.resources.Batch(ctx, req)
	if err == nil && len(resp.GetResults()) != len(index) {
		err = fmt.Errorf("batch: the server answered %d of %d operations", len(resp.GetResults()), len(index))
	} else {
		err = FromGRPC(ctx, err)
	}
	if err != nil {
		for _, i := range index {
			results[i].Err = err
		}
		return err
	}
	for j, res := range resp.GetResults() {
		results[index[j]] = OpResult{
			Err: fromWireStatus(res.GetError()), Object: res.GetObject(), Warnings: res.GetWarnings(), Unchanged: res.GetUnchanged(),
		}
	}
	return nil
}

// CreateOp creates obj.
func CreateOp[T Object](k Kind[T], obj T, opts ...WriteOption) Op {
	req, err := createRequest(k, obj, "", opts)
	return Op{&apiv1.Operation{Operation: &apiv1.Operation_Create{Create: req}}, err}
}

// UpdateOp replaces obj, conditional on its resource version if it carries one.
func UpdateOp[T Object](k Kind[T], obj T, opts ...WriteOption) Op {
	return UpdateSubresourceOp(k, obj, "", opts...)
}

// UpdateStatusOp writes obj's status.
func UpdateStatusOp[T Object](k Kind[T], obj T, opts ...WriteOption) Op {
	return UpdateSubresourceOp(k, obj, "status", opts...)
}

// UpdateSubresourceOp replaces a subresource whose body is of the kind.
func UpdateSubresourceOp[T Object](k Kind[T], obj T, subresource string, opts ...WriteOption) Op {
	req, err := updateRequest(k, obj, subresource, opts)
	return Op{&apiv1.Operation{Operation: &apiv1.Operation_Update{Update: req}}, err}
}

// PatchOp patches an object.
func PatchOp[T Object](k Kind[T], namespace, name string, t PatchType, data []byte, opts PatchOptions) Op {
	return Op{wire: &apiv1.Operation{Operation: &apiv1.Operation_Patch{Patch: patchRequest(k, namespace, name, t, data, opts)}}}
}

// DeleteOp deletes an object.
func DeleteOp[T Object](k Kind[T], namespace, name string, opts DeleteOptions) Op {
	req := &apiv1.DeleteRequest{Ref: k.Ref(namespace, name), Options: opts.wire()}
	return Op{wire: &apiv1.Operation{Operation: &apiv1.Operation_Delete{Delete: req}}}
}

// GetOp reads an object.
func GetOp[T Object](k Kind[T], namespace, name string) Op {
	req := &apiv1.GetRequest{Ref: k.Ref(namespace, name)}
	return Op{wire: &apiv1.Operation{Operation: &apiv1.Operation_Get{Get: req}}}
}

// BindOp binds a pod to a node: a corev1.Binding created on its binding subresource. The binding carries the pod's uid, so
// that it cannot land on another pod of the same name; apierrors.IsConflict if the pod is bound already.
func BindOp(pod *corev1.Pod, nodeName string) Op {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: nodeName},
	}
	value, err := binding.Marshal()
	ref := Pods().Ref(pod.Namespace, pod.Name)
	ref.Subresource = "binding"
	req := &apiv1.CreateRequest{Ref: ref, Object: &anypb.Any{TypeUrl: typeURLPrefix + "k8s.io.api.core.v1.Binding", Value: value}}
	return Op{&apiv1.Operation{Operation: &apiv1.Operation_Create{Create: req}}, err}
}
