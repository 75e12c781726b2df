package nftables

import (
	"errors"

	nft "github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// forgetTries bounds how often the forgetting of clients starts over because elements expired by themselves in between:
// each of the few clients of a departed endpoint can be the cause only once, and it happens to one in thousands.
const forgetTries = 5

// forgetClientsLocked removes the clients that are stuck to endpoints which are none any more.
func (a *Applier) forgetClientsLocked() (err error) {
	for range forgetTries {
		found, e := a.conn.GetSetElements(a.sets[setSticky])
		if e != nil {
			return e
		}
		var stale []place
		for _, e := range found {
			if !a.rememberedLocked(e) {
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
func (a *Applier) rememberedLocked(e nft.SetElement) bool {
	addr := int(4 * a.layout.a)
	if len(e.Key) != 2*addr+8 {
		return false
	}
	asked, got := string(e.Key[addr:]), string(e.Val)
	if _, ok := a.have[place{set: setMember, key: asked + got}]; ok {
		return true
	}
	_, ok := a.have[place{set: ofSort(setMember, true), key: asked[addr:] + got}]
	return ok
}
