package nftables

import (
	"errors"
	"strings"

	nft "github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// forgetTries bounds how often the forgetting of clients starts over because elements expired by themselves in between:
// each of the few clients of a departed endpoint can be the cause only once, and it happens to one in thousands.
const forgetTries = 5

// forgetClientsLocked removes the clients that are stuck to endpoints which are none any more, and all clients of the
// frontends that turned.
func (a *Applier) forgetClientsLocked(turned map[place]bool) (err error) {
	for range forgetTries {
		found, e := a.conn.GetSetElements(a.sets[setSticky])
		if e != nil {
			return e
		}
		var stale []place
		for _, e := range found {
			if !a.rememberedLocked(e, turned) {
				stale = append(stale, place{set: setSticky, key: string(e.Key)})
			}
		}
		t := newTransaction(a.table)
		t.elements(unix.NFT_MSG_DELSETELEM, 0, a.sets[setSticky], stale, nil)
		if err = a.writer.commit(t); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

// rememberedLocked says whether a client is stuck to a current endpoint of what it asked for.
func (a *Applier) rememberedLocked(e nft.SetElement, turned map[place]bool) bool {
	addr := int(4 * a.layout.a)
	if len(e.Key) != 2*addr+8 {
		return false
	}
	asked, got := string(e.Key[addr:]), string(e.Val)
	if turned[place{set: setFrontend, key: asked}] || turned[place{set: setNodePort, key: asked[addr:]}] {
		return false
	}
	if _, ok := a.have[place{set: setMember, key: asked + got}]; ok {
		return true
	}
	_, ok := a.have[place{set: ofSort(setMember, true), key: asked[addr:] + got}]
	return ok
}

// turned lists the sticky frontends whose kind changes, say from traffic policy Cluster to Local: an endpoint that was right
// for a client may not be any more.
func turned(d delta, have, want elements) map[place]bool {
	// A chain's name tells the kind before the numbers of endpoints.
	kindOf := func(chain string) string {
		return strings.TrimRightFunc(strings.TrimSuffix(chain, "-sticky"), notLetter)
	}
	out := map[place]bool{}
	for _, p := range d.del {
		if p.set != setFrontend && p.set != setNodePort {
			continue
		}
		if is := have[p]; strings.HasSuffix(is, "-sticky") && kindOf(is) != kindOf(want[p]) {
			out[p] = true
		}
	}
	return out
}

func notLetter(r rune) bool { return r == '-' || r >= '0' && r <= '9' }
