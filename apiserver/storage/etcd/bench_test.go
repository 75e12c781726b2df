package etcd

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
)

const (
	clients   = 64
	valueSize = 1024
)

// Conditional commits a second of 64 clients against raw puts of the same size through the same client library, in
// alternation.
func BenchmarkCommit(b *testing.B) {
	server := etcdtest.Start(b)
	e := open(b, server, nil)
	raw := server.Client(b)
	defer raw.Close()
	value := append([]byte(envelope), bytes.Repeat([]byte("v"), valueSize)...)
	const round = 3200
	var engineTime, rawTime time.Duration
	var revisions storage.Revision
	n := 0
	for b.Loop() {
		rawTime += parallel(b, round, func(i int) error {
			_, err := raw.Put(context.Background(), fmt.Sprintf("/raw/%d/%d", n, i), string(value))
			return err
		})
		before, err := e.Current(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		engineTime += parallel(b, round, func(i int) error {
			_, err := e.Commit(context.Background(), storage.Op{Key: fmt.Sprintf("/engine/%d/%d", n, i), Value: value, If: storage.Absent})
			return err
		})
		after, err := e.Current(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		revisions += (after - before) / stride
		n++
	}
	b.ReportMetric(float64(n*round)/engineTime.Seconds(), "commits/s")
	b.ReportMetric(float64(n*round)/rawTime.Seconds(), "raw-puts/s")
	b.ReportMetric(rawTime.Seconds()/engineTime.Seconds(), "of-raw")
	b.ReportMetric(float64(n*round)/float64(revisions), "commits/transaction")
	b.ReportMetric(0, "ns/op")
}

// Linearizable revisions a second of 64 callers, who share reads, against raw reads of the same kind.
func BenchmarkCurrent(b *testing.B) {
	server := etcdtest.Start(b)
	e := open(b, server, nil)
	raw := server.Client(b)
	defer raw.Close()
	const round = 3200
	var engineTime, rawTime time.Duration
	n := 0
	for b.Loop() {
		rawTime += parallel(b, round, func(int) error {
			_, err := raw.Get(context.Background(), "\x00", clientv3.WithCountOnly())
			return err
		})
		engineTime += parallel(b, round, func(int) error {
			_, err := e.Current(context.Background())
			return err
		})
		n++
	}
	b.ReportMetric(float64(n*round)/engineTime.Seconds(), "currents/s")
	b.ReportMetric(float64(n*round)/rawTime.Seconds(), "raw-reads/s")
	b.ReportMetric(rawTime.Seconds()/engineTime.Seconds(), "of-raw")
	b.ReportMetric(0, "ns/op")
}

// parallel runs fn n times on 64 goroutines and returns how long it took.
func parallel(b *testing.B, n int, fn func(i int) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := fn(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	return time.Since(start)
}
