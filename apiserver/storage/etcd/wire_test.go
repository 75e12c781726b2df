package etcd

import (
	"bytes"
	"math"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"bareboat.dev/apiserver/storage"
)

// What is written of commits is, to the generated code, the transaction that etcd's API asks for, whatever the condition and however long
// a value is.
func TestRequest(t *testing.T) {
	long := append([]byte(envelope), bytes.Repeat([]byte{0xff}, 1<<20)...)
	ops := []storage.Op{
		{Key: "/create", Value: long, If: storage.Absent},
		{Key: "/put", Value: value("v")},
		{Key: "/update", Value: value("v"), If: storage.Condition(at(7, 100))},
		{Key: "/empty", If: storage.Present},
		{Type: storage.Delete, Key: "/delete"},
		{Type: storage.Delete, Key: "/never", If: storage.Absent},
		{Type: storage.Check, Key: "/check", If: storage.Condition(whole(math.MaxInt64 >> placeBits))},
		{Type: storage.Check, Key: "/before", If: 5},
	}
	placed := func(v []byte) []byte { return append(bytes.Clone(v), placeTag, 100) }
	want := &etcdserverpb.TxnRequest{}
	compare := func(key string, how etcdserverpb.Compare_CompareResult, rev int64) {
		want.Compare = append(want.Compare, &etcdserverpb.Compare{Key: []byte(key), Target: etcdserverpb.Compare_MOD, Result: how, TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: rev}})
		want.Failure = append(want.Failure, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: &etcdserverpb.RangeRequest{Key: []byte(key)}}})
	}
	put := func(key string, v []byte) {
		want.Success = append(want.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: &etcdserverpb.PutRequest{Key: []byte(key), Value: v}}})
	}
	remove := func(key string) {
		want.Success = append(want.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key)}}})
	}
	compare("/create", etcdserverpb.Compare_EQUAL, 0)
	put("/create", placed(long))
	put("/put", placed(value("v")))
	compare("/update", etcdserverpb.Compare_EQUAL, 7)
	put("/update", placed(value("v")))
	compare("/empty", etcdserverpb.Compare_GREATER, 0)
	put("/empty", []byte{placeTag, 100})
	compare("/delete", etcdserverpb.Compare_GREATER, 0)
	remove("/delete")
	compare("/never", etcdserverpb.Compare_LESS, 0)
	remove("/never")
	compare("/check", etcdserverpb.Compare_EQUAL, math.MaxInt64>>placeBits)
	compare("/before", etcdserverpb.Compare_LESS, 0)

	alone := newRequest(weight(ops), len(ops))
	room := cap(alone)
	alone.commit(ops, 100)
	if len(alone) > room {
		t.Errorf("%d bytes, where %d were made room for", len(alone), room)
	}
	got := &etcdserverpb.TxnRequest{}
	if err := proto.Unmarshal(alone, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v: %v", err, got)
	}
	var both request
	both.shared(ops, 100)
	both.shared(ops[:1], lastPlace)
	if err := proto.Unmarshal(both, got); err != nil || len(got.Success) != 2 || !proto.Equal(got.Success[0].GetRequestTxn(), want) {
		t.Fatalf("%v: %d", err, len(got.Success))
	}
	if last := got.Success[1].GetRequestTxn().GetSuccess()[0].GetRequestPut(); !bytes.Equal(last.Value, long) {
		t.Error("the value of the last place has another one")
	}
}

// What the generated code writes of an answer is read as it is meant: outcomes, revision, and the entries that were read instead. What is
// cut short or of another form is an error.
func TestAnswer(t *testing.T) {
	header := &etcdserverpb.ResponseHeader{ClusterId: 1 << 63, MemberId: 2, Revision: 41, RaftTerm: 3}
	txn := func(r *etcdserverpb.TxnResponse) *etcdserverpb.ResponseOp {
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseTxn{ResponseTxn: r}}
	}
	read := func(kvs ...*mvccpb.KeyValue) *etcdserverpb.ResponseOp {
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: &etcdserverpb.RangeResponse{Header: header, Kvs: kvs}}}
	}
	b, err := proto.Marshal(&etcdserverpb.TxnResponse{Header: header, Succeeded: true, Responses: []*etcdserverpb.ResponseOp{
		txn(&etcdserverpb.TxnResponse{Header: &etcdserverpb.ResponseHeader{}, Succeeded: true, Responses: []*etcdserverpb.ResponseOp{
			{Response: &etcdserverpb.ResponseOp_ResponsePut{ResponsePut: &etcdserverpb.PutResponse{Header: header}}},
		}}),
		txn(&etcdserverpb.TxnResponse{Responses: []*etcdserverpb.ResponseOp{read(), read(&mvccpb.KeyValue{Key: []byte("/k"), Value: value("v"), CreateRevision: 7, ModRevision: 9})}}),
		read(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := a.read(b); err != nil || a.revision != 41 || !a.succeeded || len(a.parts) != 3 {
		t.Fatalf("%v: %+v", err, a)
	}
	if first, err := a.shared(0); err != nil || !first.succeeded {
		t.Errorf("%v: %+v", err, first)
	}
	second, err := a.shared(1)
	if err != nil || second.succeeded || len(second.parts) != 2 {
		t.Fatalf("%v: %+v", err, second)
	}
	if e, err := second.found(0); e != nil || err != nil {
		t.Errorf("%v %v", e, err)
	}
	if e, err := second.found(1); err != nil || e == nil || e.Key != "/k" || e.Modified != whole(9) || string(e.Value) != string(value("v")) {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := second.found(2); err == nil {
		t.Error("a response that is not there was found")
	}
	if _, err := a.shared(2); err == nil {
		t.Error("a range was taken for a transaction")
	}
	for n := range len(b) {
		var cut answer
		if err := cut.read(b[:n]); err == nil && len(cut.parts) == 3 {
			t.Errorf("the first %d bytes of %d are whole", n, len(b))
		}
	}
}
