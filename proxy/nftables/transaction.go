package nftables

import (
	"encoding/binary"
	"fmt"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Sizes of the netlink socket and its messages.
const (
	// sendBuffer must hold one transaction as a whole: 30,000 services with node ports and three endpoints each are about
	// 30 MB. It is a limit, not an allocation.
	sendBuffer = 128 << 20
	// chunkBytes is how much of a list of elements goes into one message: its length is kept in 16 bits, and the longest
	// element has 170 bytes.
	chunkBytes = 64<<10 - 256
)

// transaction collects changes that the kernel makes all at once or not at all. The listing side of the library is used
// as it is; this side is written out here because one service more must not cost thousands of allocations, and because
// the library cannot say "ct original daddr" in the form that the nft tool can print.
type transaction struct {
	family byte
	// verdict is how the chains in verdict maps are entered: with a goto, unless more rules are to be looked at afterwards.
	verdict expr.VerdictKind
	msgs    []netlink.Message
}

func newTransaction(t *nft.Table) *transaction {
	return &transaction{family: byte(t.Family), verdict: expr.VerdictGoto}
}

// attribute appends a netlink attribute.
func attribute(b []byte, kind uint16, data ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, data...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func text(b []byte, kind uint16, s string) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(s)+1))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, s...)
	return pad(append(b, 0))
}

func number(b []byte, kind uint16, v uint32) []byte {
	return attribute(b, kind, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// nested appends an attribute that consists of attributes.
func nested(b []byte, kind uint16, fill func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = fill(b)
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	binary.NativeEndian.PutUint16(b[start+2:], kind|unix.NLA_F_NESTED)
	return b
}

// add appends a message; body follows the four bytes of header that nfnetlink wants.
func (t *transaction) add(kind uint16, flags netlink.HeaderFlags, body []byte) {
	data := append([]byte{t.family, unix.NFNETLINK_V0, 0, 0}, body...)
	t.msgs = append(t.msgs, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags}, Data: data,
	})
}

func (t *transaction) addTable(name string) {
	t.add(unix.NFT_MSG_NEWTABLE, netlink.Create, number(text(nil, unix.NFTA_TABLE_NAME, name), unix.NFTA_TABLE_FLAGS, 0))
}

func (t *transaction) deleteTable(name string) {
	t.add(unix.NFT_MSG_DELTABLE, 0, text(nil, unix.NFTA_TABLE_NAME, name))
}

// addChain makes a chain, attached to a hook if one is given.
func (t *transaction) addChain(table, name string, hook *base) {
	b := text(text(nil, unix.NFTA_CHAIN_TABLE, table), unix.NFTA_CHAIN_NAME, name)
	if hook != nil {
		b = nested(b, unix.NFTA_CHAIN_HOOK, func(b []byte) []byte {
			b = number(b, unix.NFTA_HOOK_HOOKNUM, uint32(*hook.hook))
			return number(b, unix.NFTA_HOOK_PRIORITY, uint32(*hook.priority))
		})
		b = text(b, unix.NFTA_CHAIN_TYPE, string(hook.kind))
	}
	t.add(unix.NFT_MSG_NEWCHAIN, netlink.Create, b)
}

func (t *transaction) flushChain(table, name string) {
	t.add(unix.NFT_MSG_DELRULE, 0, text(text(nil, unix.NFTA_RULE_TABLE, table), unix.NFTA_RULE_CHAIN, name))
}

func (t *transaction) deleteChain(table, name string) {
	t.add(unix.NFT_MSG_DELCHAIN, 0, text(text(nil, unix.NFTA_CHAIN_TABLE, table), unix.NFTA_CHAIN_NAME, name))
}

// addRule appends a rule to a chain.
func (t *transaction) addRule(table, chain string, r rule) error {
	var failed error
	b := text(text(nil, unix.NFTA_RULE_TABLE, table), unix.NFTA_RULE_CHAIN, chain)
	b = nested(b, unix.NFTA_RULE_EXPRESSIONS, func(b []byte) []byte {
		for _, e := range r {
			data, err := t.expression(e)
			if err != nil {
				failed = fmt.Errorf("a rule of chain %s: %w", chain, err)
			}
			b = nested(b, unix.NFTA_LIST_ELEM, func(b []byte) []byte { return append(b, data...) })
		}
		return b
	})
	t.add(unix.NFT_MSG_NEWRULE, netlink.Create|unix.NLM_F_APPEND, b)
	return failed
}

// expression encodes one expression of a rule.
func (t *transaction) expression(e expr.Any) ([]byte, error) {
	ct, ok := e.(*expr.Ct)
	if !ok || ct.Key != expr.CtKeyDST {
		return expr.Marshal(t.family, e)
	}
	// The key of old has no family and thereby no length for the nft tool, which aborts on it.
	const dstIP, dstIP6 = 20, 22 // NFT_CT_DST_IP, NFT_CT_DST_IP6
	key := map[byte]uint32{unix.NFPROTO_IPV4: dstIP, unix.NFPROTO_IPV6: dstIP6}[t.family]
	b := text(nil, unix.NFTA_EXPR_NAME, "ct")
	return nested(b, unix.NFTA_EXPR_DATA, func(b []byte) []byte {
		b = number(b, unix.NFTA_CT_KEY, key)
		b = number(b, unix.NFTA_CT_DREG, ct.Register)
		return attribute(b, unix.NFTA_CT_DIRECTION, 0) // IP_CT_DIR_ORIGINAL
	}), nil
}

// addSet makes a set or map.
func (t *transaction) addSet(s *nft.Set, id uint32) {
	fields := nft.ConcatSetTypeElements(s.KeyType)
	var flags uint32
	if len(fields) > 1 {
		flags |= flagConcat
	}
	for f, on := range map[uint32]bool{
		unix.NFT_SET_MAP: s.IsMap, unix.NFT_SET_INTERVAL: s.Interval, unix.NFT_SET_TIMEOUT: s.HasTimeout, unix.NFT_SET_EVAL: s.Dynamic,
	} {
		if on {
			flags |= f
		}
	}
	b := text(text(nil, unix.NFTA_SET_TABLE, s.Table.Name), unix.NFTA_SET_NAME, s.Name)
	b = number(b, unix.NFTA_SET_ID, id)
	b = number(b, unix.NFTA_SET_FLAGS, flags)
	b = number(b, unix.NFTA_SET_KEY_TYPE, s.KeyType.GetNFTMagic())
	b = number(b, unix.NFTA_SET_KEY_LEN, s.KeyType.Bytes)
	switch {
	case s.IsMap && s.DataType == nft.TypeVerdict:
		b = number(b, unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	case s.IsMap:
		b = number(b, unix.NFTA_SET_DATA_TYPE, s.DataType.GetNFTMagic())
		b = number(b, unix.NFTA_SET_DATA_LEN, s.DataType.Bytes)
	}
	b = nested(b, unix.NFTA_SET_DESC, func(b []byte) []byte {
		if s.Size > 0 {
			b = number(b, unix.NFTA_SET_DESC_SIZE, s.Size)
		}
		if len(fields) == 1 {
			return b
		}
		return nested(b, descConcat, func(b []byte) []byte {
			for _, f := range fields {
				b = nested(b, unix.NFTA_LIST_ELEM, func(b []byte) []byte { return number(b, fieldLen, f.Bytes) })
			}
			return b
		})
	})
	t.add(unix.NFT_MSG_NEWSET, netlink.Create, b)
}

func (t *transaction) deleteSet(table, name string) {
	t.add(unix.NFT_MSG_DELSET, 0, text(text(nil, unix.NFTA_SET_TABLE, table), unix.NFTA_SET_NAME, name))
}

// From linux/netfilter/nf_tables.h; the unix package lacks them.
const (
	flagConcat = 0x80 // NFT_SET_CONCAT
	descConcat = 2    // NFTA_SET_DESC_CONCAT
	fieldLen   = 1    // NFTA_SET_FIELD_LEN
	keyEnd     = 10   // NFTA_SET_ELEM_KEY_END
)

// elements adds or deletes (kind) elements of a set, in messages of bounded size.
func (t *transaction) elements(kind uint16, flags netlink.HeaderFlags, s *nft.Set, places []place, data elements) {
	for len(places) > 0 {
		b := make([]byte, 0, min(chunkBytes+256, 200*len(places)+128))
		b = text(text(b, unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name), unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		start := len(b)
		b = nested(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(b []byte) []byte {
			for len(places) > 0 && len(b)-start < chunkBytes-200 {
				b = t.element(b, s, places[0], data)
				places = places[1:]
			}
			return b
		})
		t.add(kind, flags, b)
	}
}

// element appends one element. To be deleted it is named by its key alone.
func (t *transaction) element(b []byte, s *nft.Set, p place, data elements) []byte {
	value := func(b []byte, kind uint16, v string) []byte {
		return nested(b, kind, func(b []byte) []byte {
			b = binary.NativeEndian.AppendUint16(b, uint16(4+len(v)))
			b = binary.NativeEndian.AppendUint16(b, unix.NFTA_DATA_VALUE)
			return pad(append(b, v...))
		})
	}
	return nested(b, unix.NFTA_LIST_ELEM, func(b []byte) []byte {
		b = value(b, unix.NFTA_SET_ELEM_KEY, p.key)
		if p.end != "" {
			b = value(b, keyEnd, p.end)
		}
		if data == nil || !s.IsMap {
			return b
		}
		if s.DataType != nft.TypeVerdict {
			return value(b, unix.NFTA_SET_ELEM_DATA, data[p])
		}
		return nested(b, unix.NFTA_SET_ELEM_DATA, func(b []byte) []byte {
			return nested(b, unix.NFTA_DATA_VERDICT, func(b []byte) []byte {
				b = number(b, unix.NFTA_VERDICT_CODE, uint32(int32(t.verdict)))
				return text(b, unix.NFTA_VERDICT_CHAIN, data[p])
			})
		})
	})
}

// commit sends the transaction, and returns when the kernel has made all of it, or an error if it has made none. After an
// error the socket may hold more to be read and must not be used again.
func (t *transaction) commit(conn *netlink.Conn) error {
	if len(t.msgs) == 0 {
		return nil
	}
	// Errors come unasked for; that all went well is said of the last message.
	t.msgs[len(t.msgs)-1].Header.Flags |= netlink.Acknowledge
	limit := func(kind uint16) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request},
			Data:   []byte{0, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	all := append([]netlink.Message{limit(unix.NFNL_MSG_BATCH_BEGIN)}, t.msgs...)
	if _, err := conn.SendMessages(append(all, limit(unix.NFNL_MSG_BATCH_END))); err != nil {
		return err
	}
	_, err := conn.Receive()
	return err
}
