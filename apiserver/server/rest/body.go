package rest

import (
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
)

const (
	// Answers larger than this are compressed for clients that accept it; below, gzip costs more than it saves. It is also how much of
	// an answer is put together before it is sent, whatever its size: 1,000 clients who do not read on hold 128 MiB.
	piece     = 128 << 10
	gzipLevel = 1
)

// body is an answer that is sent in pieces while it is made. Its header goes out with the first of them: until then the answer can
// still become another one.
type body struct {
	h           *Handler
	w           http.ResponseWriter
	r           *http.Request
	code        int
	contentType string
	// buf is what has not been sent yet; whoever adds to it calls spill from time to time.
	buf []byte
	out io.Writer
	zip *gzip.Writer
}

func (h *Handler) newBody(w http.ResponseWriter, r *http.Request, code int, contentType string) *body {
	return &body{h: h, w: w, r: r, code: code, contentType: contentType}
}

// spill sends what there is, if it is enough for a piece.
func (b *body) spill() error {
	if len(b.buf) < piece {
		return nil
	}
	return b.flush()
}

// begun reports whether the client has got a part of the answer.
func (b *body) begun() bool { return b.out != nil }

func (b *body) flush() error {
	if !b.begun() {
		b.begin()
	}
	_, err := b.out.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

func (b *body) begin() {
	b.w.Header().Set("Content-Type", b.contentType)
	b.out = b.w
	if len(b.buf) >= piece && acceptsGzip(b.r) {
		b.w.Header().Set("Content-Encoding", "gzip")
		b.w.Header().Add("Vary", "Accept-Encoding")
		b.zip = b.h.zip(b.w)
		b.out = b.zip
	}
	b.w.WriteHeader(b.code)
}

// end sends the rest. Once the header is out, a failing write only means that the client has left.
func (b *body) end() {
	if b.flush() == nil && b.zip != nil {
		_ = b.zip.Close()
	}
}

// release returns what the body has borrowed. What is not sent yet is dropped.
func (b *body) release() {
	if b.zip != nil {
		b.h.zips.Put(b.zip)
		b.zip = nil
	}
}

// zip borrows a compressor, which is larger than most of what is compressed.
func (h *Handler) zip(w io.Writer) *gzip.Writer {
	if z, ok := h.zips.Get().(*gzip.Writer); ok {
		z.Reset(w)
		return z
	}
	z, err := gzip.NewWriterLevel(w, gzipLevel)
	if err != nil {
		return gzip.NewWriter(w) // cannot be: the level is one that there is
	}
	return z
}

// write sends an answer that is there as a whole.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, code int, contentType string, data []byte) {
	b := h.newBody(w, r, code, contentType)
	defer b.release()
	b.buf = data
	b.end()
}

func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" {
			return true
		}
	}
	return false
}
