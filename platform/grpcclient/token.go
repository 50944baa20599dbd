package grpcclient

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// tokenAge is for how long a token that was read is good without another look at its file.
const tokenAge = time.Second

// token is a bearer token in a file, as credentials of each call. It is read again when a
// second has passed, so that a renewed one is picked up; while it cannot be read, the last
// good one serves. Safe for concurrent use.
type token struct {
	file   string
	secure bool

	mu   sync.Mutex
	text string
	read time.Time
}

func newToken(file string, secure bool) (*token, error) {
	t := &token{file: file, secure: secure}
	if err := t.load(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *token) load() error {
	content, err := os.ReadFile(t.file)
	if err != nil {
		return fmt.Errorf("read bearer token: %w", err)
	}
	text := strings.TrimSpace(string(content))
	if text == "" || strings.ContainsFunc(text, unprintable) {
		return fmt.Errorf("read bearer token: %s holds no token of one line", t.file)
	}
	t.text, t.read = text, time.Now()
	return nil
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.read) > tokenAge {
		_ = t.load() // the last good one serves
	}
	return map[string]string{"authorization": "Bearer " + t.text}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (t *token) RequireTransportSecurity() bool { return t.secure }
