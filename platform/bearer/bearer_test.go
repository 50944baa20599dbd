package bearer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/metadata"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func tokenLine(principal, token string) string {
	sum := sha256.Sum256([]byte(token))
	return principal + ":" + hex.EncodeToString(sum[:]) + "\n"
}

func with(ctx context.Context, authorization ...string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.MD{"authorization": authorization})
}

func TestNew(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, content string) (grpcserver.AuthenticatorFunc, string, *observer.ObservedLogs) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "tokens")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		core, logs := observer.New(zap.ErrorLevel)
		auth, err := New(Config{Mode: Token, TokensFile: file}, zap.New(core))
		require.NoError(t, err)
		return auth, file, logs
	}

	t.Run("knows a caller by its token", func(t *testing.T) {
		t.Parallel()
		auth, _, _ := setup(t, "# callers\n"+tokenLine("shop", "s3cret")+tokenLine("till", "other"))
		for header, want := range map[string]string{"Bearer s3cret": "shop", "bearer other": "till"} {
			p, err := auth(with(t.Context(), header), "/m")
			require.NoError(t, err)
			require.Equal(t, want, p.ID)
		}
	})

	t.Run("refuses everything else with the same answer", func(t *testing.T) {
		t.Parallel()
		auth, _, _ := setup(t, tokenLine("shop", "s3cret"))
		for _, ctx := range []context.Context{
			t.Context(), with(t.Context()), with(t.Context(), ""), with(t.Context(), "s3cret"), with(t.Context(), "Bearer "),
			with(t.Context(), "Bearer wrong"), with(t.Context(), "Basic s3cret"), with(t.Context(), "Bearer s3cret", "Bearer s3cret"),
		} {
			_, err := auth(ctx, "/m")
			require.Equal(t, fault.Unauthenticated, fault.CodeOf(err))
			require.Equal(t, errUnauthenticated, err)
		}
	})

	t.Run("reads a changed file again and keeps the last good one", func(t *testing.T) {
		t.Parallel()
		auth, file, logs := setup(t, tokenLine("shop", "old"))
		change := func(content string, age time.Duration) {
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			require.NoError(t, os.Chtimes(file, time.Now(), time.Now().Add(-age)))
		}
		works := func(token string) func() bool {
			return func() bool { _, err := auth(with(t.Context(), "Bearer "+token), "/m"); return err == nil }
		}
		change(tokenLine("shop", "new"), time.Hour)
		require.Eventually(t, works("new"), 30*time.Second, 10*time.Millisecond)
		require.False(t, works("old")())

		change("what is this", 2*time.Hour)
		require.Eventually(t, func() bool { return works("new")() && logs.Len() > 0 }, 30*time.Second, 10*time.Millisecond)
		require.NotContains(t, logs.All()[0].ContextMap()["error"], "what is this")
	})

	t.Run("complains once of a broken file", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "tokens")
		require.NoError(t, os.WriteFile(file, []byte(tokenLine("shop", "s3cret")), 0o600))
		core, logs := observer.New(zap.ErrorLevel)
		known := &tokens{file: file, logger: zap.New(core)}
		require.NoError(t, known.load())
		require.NoError(t, os.WriteFile(file, []byte("what is this"), 0o600))
		require.NoError(t, os.Chtimes(file, time.Now(), time.Now().Add(-time.Hour)))
		for range 3 {
			known.checked = time.Time{} // long ago
			known.reload()
		}
		require.Equal(t, 1, logs.Len())
		_, err := known.authenticate(with(t.Context(), "Bearer s3cret"), "/m")
		require.NoError(t, err)
	})

	t.Run("does not start without tokens", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "tokens")
		for content, want := range map[string]string{"": "has no tokens", "shop:abc": "line 1 is not", ":" + tokenLine("", "x")[1:]: "line 1 is not"} {
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			_, err := New(Config{Mode: Token, TokensFile: file}, zap.NewNop())
			require.ErrorContains(t, err, want)
		}
		_, err := New(Config{Mode: Token, TokensFile: file + "-missing"}, zap.NewNop())
		require.ErrorContains(t, err, "AUTH_TOKENS_FILE")
	})

	t.Run("in mode none everybody is the developer", func(t *testing.T) {
		t.Parallel()
		auth, err := New(Config{Mode: None}, zap.NewNop())
		require.NoError(t, err)
		p, err := auth(t.Context(), "/m")
		require.NoError(t, err)
		require.Equal(t, "developer", p.ID)
	})
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{"": "", None: "", Token: "AUTH_TOKENS_FILE", "basic": "AUTH_MODE"} {
		_, err := New(Config{Mode: mode}, nil)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}
