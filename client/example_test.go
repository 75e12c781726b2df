package client_test

import (
	"context"
	"fmt"
	"log"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
)

// Reading, writing on condition of what was read, and telling errors apart.
func Example() {
	cfg, err := client.LoadConfig("", "")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Dial(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	nodes, ctx := client.Of(c, client.Nodes()), context.Background()
	node, err := nodes.Get(ctx, "", "node-1")
	switch {
	case apierrors.IsNotFound(err):
		fmt.Println("no such node")
		return
	case client.IsUnavailable(err):
		fmt.Println("no API server answers; try again later")
		return
	case err != nil:
		log.Fatal(err)
	}
	node.Spec.Unschedulable = true
	if _, err := nodes.Update(ctx, node); apierrors.IsConflict(err) {
		fmt.Println("somebody else changed the node meanwhile")
	}
}

// Following one node's pods through failures of connections and servers.
func ExampleMirror() {
	follow := func(ctx context.Context, c *client.Client) error {
		pods := client.NewMirror(c, client.Pods(), client.MirrorOptions[*corev1.Pod]{FieldSelector: "spec.nodeName=node-1"})
		pods.OnChange(func(ch client.Change[*corev1.Pod]) { fmt.Println(ch.Type, ch.Object().Name, ch.Revision) })
		return client.RunAll(ctx, pods.Run, func(ctx context.Context) error {
			if err := pods.WaitSynced(ctx); err != nil {
				return err
			}
			fmt.Println("the node has", pods.Len(), "pods")
			return nil
		})
	}
	_ = follow
}

// Binding many pods in one request; each result is its own.
func ExampleClient_BatchOmit() {
	bind := func(ctx context.Context, c *client.Client, pods []*corev1.Pod, node string) error {
		ops := make([]client.Op, len(pods))
		for i, p := range pods {
			ops[i] = client.BindOp(p, node)
		}
		results, err := c.BatchOmit(ctx, ops...)
		for i, r := range results {
			if apierrors.IsConflict(r.Err) {
				fmt.Println(pods[i].Name, "is bound already")
			}
		}
		return err
	}
	_ = bind
}
