package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// lockWait is how many seconds iptables waits for another program that holds its lock.
const lockWait = 10

// tables programs one family's packet filter in one network namespace.
type tables struct {
	netns string
	ipv6  bool
}

func (t tables) command() string {
	if t.ipv6 {
		return "ip6tables"
	}
	return "iptables"
}

// restore applies input to the tables that it names, all or nothing, leaving other chains alone.
func (t tables) restore(ctx context.Context, input string) error {
	return in(t.netns, func() error {
		cmd := exec.CommandContext(ctx, t.command()+"-restore", "--noflush", "-w", fmt.Sprint(lockWait))
		cmd.Stdin = strings.NewReader(input)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			if errors.Is(err, exec.ErrNotFound) {
				return fmt.Errorf("the pod network needs the program %s (Debian: apt-get install iptables): %w", t.command(), err)
			}
			return fmt.Errorf("%s-restore: %w: %s", t.command(), err, strings.TrimSpace(stderr.String()))
		}
		return nil
	})
}

func (t tables) client() (*iptables.IPTables, error) {
	family := iptables.ProtocolIPv4
	if t.ipv6 {
		family = iptables.ProtocolIPv6
	}
	return iptables.New(iptables.IPFamily(family), iptables.Timeout(lockWait))
}

// ensureJumps leads packets into our chains, which must exist.
func (t tables) ensureJumps() error {
	return in(t.netns, func() error {
		ipt, err := t.client()
		if err != nil {
			return err
		}
		for _, j := range jumps(t.ipv6) {
			if err := ipt.AppendUnique(j.table, j.chain, j.rule...); err != nil {
				return fmt.Errorf("lead %s %s to the pod network: %w", j.table, j.chain, err)
			}
		}
		return nil
	})
}

// remove takes away our rules and chains.
func (t tables) remove() error {
	return in(t.netns, func() error {
		ipt, err := t.client()
		if errors.Is(err, exec.ErrNotFound) {
			return nil // then there are no rules of ours
		}
		if err != nil {
			return err
		}
		var all error
		for _, j := range jumps(t.ipv6) {
			if err := deleteJump(ipt, j); err != nil {
				all = errors.Join(all, err)
			}
		}
		for _, c := range []struct{ table, name string }{{"nat", chainMasq}, {"nat", chainPorts}, {"filter", chainForward}} {
			exists, err := ipt.ChainExists(c.table, c.name)
			if err == nil && exists {
				err = ipt.ClearAndDeleteChain(c.table, c.name)
			}
			all = errors.Join(all, err)
		}
		return all
	})
}

func deleteJump(ipt *iptables.IPTables, j jump) error {
	target := j.rule[len(j.rule)-1]
	if exists, err := ipt.ChainExists(j.table, target); err != nil || !exists {
		return err // a rule cannot lead to a chain that is not there
	}
	return ipt.DeleteIfExists(j.table, j.chain, j.rule...)
}
