package pipeline

import (
	"crypto/rand"
	"encoding/hex"
)

const (
	// nameAlphabet has no vowels and nothing that is easily misread, so that no generated name offends or confuses.
	nameAlphabet     = "bcdfghjklmnpqrstvwxz2456789"
	nameSuffixLength = 5
	// maxGeneratedBase leaves room for the suffix in a DNS label's 63 characters.
	maxGeneratedBase = 63 - nameSuffixLength
)

// generateName appends a random suffix to a prefix, which it shortens if it must.
func (p *Pipeline) generateName(base string) string {
	if len(base) > maxGeneratedBase {
		base = base[:maxGeneratedBase]
	}
	suffix := make([]byte, nameSuffixLength)
	for i := range suffix {
		suffix[i] = nameAlphabet[p.cfg.Rand(len(nameAlphabet))]
	}
	return base + string(suffix)
}

// newUID returns a random UUID (RFC 9562, version 4).
func (p *Pipeline) newUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// Suffix returns a random suffix as generated names have it.
func (p *Pipeline) Suffix() string { return p.generateName("") }
