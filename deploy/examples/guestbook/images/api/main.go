// Command api is the guest book's middle tier: it keeps entries in Redis and serves them as JSON.
//
//	GET  /entries         {"entries": […], "servedBy": "pod"}
//	POST /entries         body is the entry's text
//	GET  /healthz         200 while Redis answers
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxEntry bounds one entry, maxEntries how many are shown.
	maxEntry, maxEntries = 1 << 10, 100
	// redisTimeout bounds one exchange with Redis.
	redisTimeout = 2 * time.Second
)

func main() {
	s := server{redis: os.Getenv("REDIS_ADDR"), password: os.Getenv("REDIS_PASSWORD"), name: os.Getenv("POD_NAME")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /entries", s.list)
	mux.HandleFunc("POST /entries", s.add)
	mux.HandleFunc("GET /healthz", s.health)
	log.Fatal(http.ListenAndServe(":8080", mux))
}

type server struct{ redis, password, name string }

func (s server) list(w http.ResponseWriter, _ *http.Request) {
	reply, err := s.do("LRANGE", "guestbook", "0", strconv.Itoa(maxEntries-1))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"entries": reply, "servedBy": s.name})
}

func (s server) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEntry))
	if err != nil || len(strings.TrimSpace(string(body))) == 0 {
		http.Error(w, fmt.Sprintf("an entry has 1 to %d bytes", maxEntry), http.StatusBadRequest)
		return
	}
	if _, err := s.do("LPUSH", "guestbook", string(body)); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func (s server) health(w http.ResponseWriter, _ *http.Request) {
	if _, err := s.do("PING"); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// do sends one command on a connection of its own and returns the reply's strings (RESP2).
func (s server) do(args ...string) ([]string, error) {
	conn, err := net.DialTimeout("tcp", s.redis, redisTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(redisTimeout))
	r := bufio.NewReader(conn)
	if s.password != "" {
		if _, err := command(conn, r, "AUTH", s.password); err != nil {
			return nil, err
		}
	}
	return command(conn, r, args...)
}

func command(w io.Writer, r *bufio.Reader, args ...string) ([]string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return nil, err
	}
	return reply(r)
}

func reply(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("redis: empty reply")
	}
	switch line[0] {
	case '+', ':':
		return []string{line[1:]}, nil
	case '-':
		return nil, errors.New("redis: " + line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		buf := make([]byte, n+2)
		_, err = io.ReadFull(r, buf)
		return []string{string(buf[:n])}, err
	case '*':
		n, err := strconv.Atoi(line[1:])
		out := []string{}
		for i := 0; i < n && err == nil; i++ {
			var item []string
			item, err = reply(r)
			out = append(out, item...)
		}
		return out, err
	}
	return nil, fmt.Errorf("redis: unknown reply %q", line)
}
