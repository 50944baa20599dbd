// Package bearer tells the callers of a gRPC server apart by their bearer tokens, which it knows by their
// hashes in a file. It suits services that call each other: no token expires, and one is revoked or
// replaced by changing the file, without a restart.
package bearer

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// How callers prove who they are.
const (
	// None has everybody be the principal "developer".
	None = "none"
	// Token asks for a bearer token in the metadata "authorization".
	Token = "token"
)

// Config says how callers are authenticated.
type Config struct {
	// Mode is Token, or None, which a service should refuse outside development. Default None.
	Mode string `env:"AUTH_MODE"`
	// TokensFile has a line "principal:sha256" for each bearer token, the hash in hexadecimal; other
	// lines are empty or begin with #. It is read again when it changes. Required with Token.
	TokensFile string `env:"AUTH_TOKENS_FILE"`
}

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() { c.Mode = cmp.Or(c.Mode, None) }

// Validate reports every bad value at once.
func (c Config) Validate() error {
	switch {
	case c.Mode != None && c.Mode != Token:
		return fmt.Errorf("AUTH_MODE: %q is neither token nor none", c.Mode)
	case c.Mode == Token && c.TokensFile == "":
		return errors.New("AUTH_TOKENS_FILE: is required with AUTH_MODE=token")
	}
	return nil
}

// New returns what [grpcserver.WithAuthenticator] takes, safe for concurrent use. A file that becomes
// unreadable is logged, once until it changes, and the last good one stays in force. A nil logger is none.
// An error means that the configuration is wrong or that the file has no tokens.
func New(cfg Config, logger *zap.Logger) (grpcserver.AuthenticatorFunc, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration of bearer tokens: %w", err)
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	if cfg.Mode == None {
		return func(context.Context, string) (grpcserver.Principal, error) {
			return grpcserver.Principal{ID: "developer"}, nil
		}, nil
	}
	t := &tokens{file: cfg.TokensFile, logger: logger}
	if err := t.load(); err != nil {
		return nil, err
	}
	return t.authenticate, nil
}

// tokens knows the callers by the hashes of their tokens: the file gives no token away, and looking
// a hash up takes the same time however much of it is right.
type tokens struct {
	file   string
	logger *zap.Logger

	mu         sync.RWMutex
	principals map[[sha256.Size]byte]string
	modified   time.Time
	checked    time.Time
}

var errUnauthenticated = fault.New(fault.Unauthenticated, "a valid bearer token is required")

func (t *tokens) authenticate(ctx context.Context, _ string) (grpcserver.Principal, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return grpcserver.Principal{}, errUnauthenticated
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return grpcserver.Principal{}, errUnauthenticated
	}
	t.reload()
	t.mu.RLock()
	id, ok := t.principals[sha256.Sum256([]byte(token))]
	t.mu.RUnlock()
	if !ok {
		return grpcserver.Principal{}, errUnauthenticated
	}
	return grpcserver.Principal{ID: id}, nil
}

// reload reads a changed file, looking at most once a second. A broken one is logged once and the
// last good one kept.
func (t *tokens) reload() {
	t.mu.RLock()
	fresh := time.Since(t.checked) < time.Second
	t.mu.RUnlock()
	if fresh {
		return
	}
	t.mu.Lock()
	t.checked = time.Now()
	modified := t.modified
	t.mu.Unlock()
	info, err := os.Stat(t.file)
	if err == nil && info.ModTime().Equal(modified) {
		return
	}
	if err == nil {
		err = t.load()
	}
	if err != nil {
		t.logger.Error("read tokens again: the last good ones stay in force", zap.Error(err))
	}
}

func (t *tokens) load() error {
	info, err := os.Stat(t.file)
	if err != nil {
		return fmt.Errorf("read AUTH_TOKENS_FILE: %w", err)
	}
	content, err := os.ReadFile(t.file)
	if err != nil {
		return fmt.Errorf("read AUTH_TOKENS_FILE: %w", err)
	}
	principals, err := parseTokens(content)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.modified, t.checked = info.ModTime(), time.Now() // Also of a broken file: it is read once.
	if err != nil {
		return fmt.Errorf("read AUTH_TOKENS_FILE %s: %w", t.file, err)
	}
	t.principals = principals
	return nil
}

func parseTokens(content []byte) (map[[sha256.Size]byte]string, error) {
	principals := map[[sha256.Size]byte]string{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		principal, text, _ := strings.Cut(line, ":")
		hash, err := hex.DecodeString(text)
		if err != nil || len(hash) != sha256.Size || principal == "" {
			return nil, fmt.Errorf("line %d is not principal:sha256", n) // The line itself may hold a secret.
		}
		principals[[sha256.Size]byte(hash)] = principal
	}
	if len(principals) == 0 {
		return nil, errors.New("it has no tokens")
	}
	return principals, lines.Err()
}
