package etcd

import (
	"context"
	"fmt"
	"math"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"bareboat.dev/apiserver/storage"
)

// Transactions are written, and their answers read, here: as messages of etcd's API a commit of one key is a dozen objects and its
// answer half a dozen, each of them reached through reflection, which costs the API server more than sending it does.

// Field numbers of etcd's rpc.proto, as of etcd 3.4; they never change.
const (
	// TxnRequest
	txnCompare protowire.Number = 1
	txnSuccess protowire.Number = 2
	txnFailure protowire.Number = 3
	// Compare
	compareResult protowire.Number = 1
	compareTarget protowire.Number = 2
	compareKey    protowire.Number = 3
	compareMod    protowire.Number = 6
	// RequestOp and ResponseOp
	opRange  protowire.Number = 1
	opPut    protowire.Number = 2
	opDelete protowire.Number = 3
	opTxn    protowire.Number = 4
	// RangeRequest, PutRequest, DeleteRangeRequest
	requestKey   protowire.Number = 1
	requestValue protowire.Number = 2
	// TxnResponse and its ResponseHeader
	answerHeader    protowire.Number = 1
	answerSucceeded protowire.Number = 2
	answerResponses protowire.Number = 3
	headerRevision  protowire.Number = 3
)

// lengthBytes is what the length of a message takes: it is written when the message is, and may have leading zeros; 28 bits are more
// than gRPC sends. frameBytes is what an op takes at most besides its keys and its value: ten messages' heads and a few numbers.
const (
	lengthBytes = 4
	frameBytes  = 128
)

// request is a TxnRequest that is being written.
type request []byte

// newRequest has room for what weighs so many bytes (see weight) in so many ops.
func newRequest(bytes, ops int) request { return make(request, 0, bytes+ops*frameBytes) }

// begin starts a message in a field, and end gives the one that started there its length.
func (r *request) begin(field protowire.Number) int {
	*r = append(protowire.AppendTag(*r, field, protowire.BytesType), 0, 0, 0, 0)
	return len(*r)
}

func (r *request) end(start int) {
	n := len(*r) - start
	for i := range lengthBytes {
		(*r)[start-lengthBytes+i] = byte(n>>(7*i))&0x7f | 0x80
	}
	(*r)[start-1] &= 0x7f
}

func (r *request) text(field protowire.Number, s string) {
	*r = protowire.AppendString(protowire.AppendTag(*r, field, protowire.BytesType), s)
}

func (r *request) number(field protowire.Number, n int64) {
	*r = protowire.AppendVarint(protowire.AppendTag(*r, field, protowire.VarintType), uint64(n))
}

// shared adds a commit that shares the transaction with others, as a transaction of its own.
func (r *request) shared(ops []storage.Op, place int) {
	op, txn := r.begin(txnSuccess), r.begin(opTxn)
	r.commit(ops, place)
	r.end(txn)
	r.end(op)
}

// commit adds what is to be compared, what to be done, and what to be read if a comparison fails.
func (r *request) commit(ops []storage.Op, place int) {
	for i := range ops {
		op := &ops[i]
		if c, ok := compare(op); ok {
			r.compare(op.Key, c)
			failure, read := r.begin(txnFailure), r.begin(opRange)
			r.text(requestKey, op.Key)
			r.end(read)
			r.end(failure)
		}
		if op.Type != storage.Check {
			r.change(op, place)
		}
	}
}

func (r *request) compare(key string, c comparison) {
	start := r.begin(txnCompare)
	r.number(compareResult, int64(c.how))
	r.number(compareTarget, int64(etcdserverpb.Compare_MOD))
	r.text(compareKey, key)
	r.number(compareMod, c.rev)
	r.end(start)
}

func (r *request) change(op *storage.Op, place int) {
	kind := opPut
	if op.Type == storage.Delete {
		kind = opDelete
	}
	success, change := r.begin(txnSuccess), r.begin(kind)
	r.text(requestKey, op.Key)
	if op.Type == storage.Put {
		value := r.begin(requestValue)
		*r = appendPlaced(*r, op.Value, place)
		r.end(value)
	}
	r.end(change)
	r.end(success)
}

// answer is a TxnResponse, of which only that is read which is asked for: most say no more than that the transaction succeeded.
type answer struct {
	revision  int64
	succeeded bool
	// parts are ResponseOps, encoded.
	parts [][]byte
}

// read takes a TxnResponse apart.
func (a *answer) read(b []byte) error {
	return fields(b, func(field protowire.Number, n uint64, part []byte) (err error) {
		switch field {
		case answerHeader:
			a.revision, err = revisionOf(part)
		case answerSucceeded:
			a.succeeded = n != 0
		case answerResponses:
			a.parts = append(a.parts, part)
		}
		return err
	})
}

func revisionOf(header []byte) (rev int64, err error) {
	err = fields(header, func(field protowire.Number, n uint64, _ []byte) error {
		if field == headerRevision {
			rev = int64(n)
		}
		return nil
	})
	return rev, err
}

// shared is the answer to the ith commit of those that shared the transaction.
func (a *answer) shared(i int) (part answer, err error) {
	err = fields(a.parts[i], func(field protowire.Number, _ uint64, txn []byte) error {
		if field != opTxn {
			return fmt.Errorf("response %d is none to a transaction", i)
		}
		return part.read(txn)
	})
	return part, err
}

// found is what the ith part has read: the entry, or nil.
func (a *answer) found(i int) (*storage.Entry, error) {
	if i >= len(a.parts) {
		return nil, fmt.Errorf("%d responses are too few", len(a.parts))
	}
	var op etcdserverpb.ResponseOp
	if err := proto.Unmarshal(a.parts[i], &op); err != nil {
		return nil, err
	}
	if kvs := op.GetResponseRange().GetKvs(); len(kvs) > 0 {
		e := entry(kvs[0])
		return &e, nil
	}
	return nil, nil
}

// fields calls visit for each field of a message: with a number, or with bytes, which share the message's memory.
func fields(b []byte, visit func(field protowire.Number, n uint64, part []byte) error) error {
	for len(b) > 0 {
		field, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var number uint64
		var part []byte
		switch typ {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			part, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := visit(field, number, part); err != nil {
			return err
		}
	}
	return nil
}

// txnCodec has gRPC send a request and receive an answer.
type txnCodec struct{}

// Marshal implements encoding.CodecV2.
func (txnCodec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(request)
	if !ok {
		return nil, fmt.Errorf("%T is no transaction", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(r)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (txnCodec) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*answer)
	if !ok {
		return fmt.Errorf("%T is no transaction's answer", v)
	}
	return a.read(data.Materialize())
}

// Name implements encoding.CodecV2.
func (txnCodec) Name() string { return "proto" }

// send sends a transaction on the client's connection, with what it adds to each call.
func (e *Engine) send(ctx context.Context, r request) (answer, error) {
	var a answer
	err := e.client.ActiveConnection().Invoke(ctx, etcdserverpb.KV_Txn_FullMethodName, r, &a,
		grpc.StaticMethod(), grpc.ForceCodecV2(txnCodec{}), grpc.MaxCallSendMsgSize(sendBytes), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	return a, err
}
