package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/slipwayhq/slipway/platform/config"
)

type server struct {
	Addr    string        `env:"ADDR"`
	Timeout time.Duration `env:"TIMEOUT"`
	Retries int           `env:"RETRIES"`
}

func (s *server) SetDefaults() {
	if s.Addr == "" {
		s.Addr = ":50051"
	}
}

func (s server) Validate() error {
	var errs []error
	if s.Retries < 0 {
		errs = append(errs, errors.New("RETRIES: is negative"))
	}
	if s.Timeout < 0 {
		errs = append(errs, errors.New("TIMEOUT: is negative"))
	}
	return errors.Join(errs...)
}

type level string

func (l *level) UnmarshalText(text []byte) error {
	if string(text) != "low" && string(text) != "high" {
		return fmt.Errorf("%q is neither low nor high", text)
	}
	*l = level(text)
	return nil
}

type settings struct {
	Server   server
	Database string        `env:"DATABASE_URL,required"`
	Token    config.Secret `env:"TOKEN"`
	Critical []string      `env:"CRITICAL"`
	Level    level         `env:"LEVEL"`
	Debug    bool          `env:"DEBUG"`
	Share    float64       `env:"SHARE"`
	internal string
}

// Validate repeats what the server says, and speaks of variables that may be unreadable.
func (s settings) Validate() error {
	errs := []error{s.Server.Validate()}
	if _, err := url.Parse(s.Database); err != nil || s.Database == "" {
		errs = append(errs, fmt.Errorf("DATABASE_URL: is no URL: %w", err))
	}
	return errors.Join(errs...)
}

func TestLoad(t *testing.T) {
	t.Parallel()

	t.Run("fills nested structs, keeps what is unset, then applies defaults", func(t *testing.T) {
		t.Parallel()
		cfg := settings{Level: "high", Server: server{Timeout: time.Second}}
		err := config.Load([]string{"DATABASE_URL=postgres://x", "CRITICAL=a,b", "RETRIES=3", "TOKEN=t"}, &cfg)
		require.NoError(t, err)
		require.Equal(t, settings{
			Server:   server{Addr: ":50051", Timeout: time.Second, Retries: 3},
			Database: "postgres://x", Token: "t", Critical: []string{"a", "b"}, Level: "high",
		}, cfg)
	})

	t.Run("an explicit zero replaces a default that was set before", func(t *testing.T) {
		t.Parallel()
		cfg := settings{Server: server{Timeout: 5 * time.Second}}
		require.NoError(t, config.Load([]string{"DATABASE_URL=x", "TIMEOUT=0s"}, &cfg))
		require.Zero(t, cfg.Server.Timeout)
	})

	t.Run("names everything that is wrong at once, each thing once", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		err := config.Load([]string{
			"TIMEOUT=10", "RETRIES=-1", "LEVEL=middle", "DEBUG=perhaps", "SHARE=a third",
		}, &cfg)
		var e *config.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, []string{
			`TIMEOUT: "10" is no duration: write for example 5s, 250ms or 1m30s`,
			`DATABASE_URL: is required and not set`,
			`LEVEL: "middle" is neither low nor high`,
			`DEBUG: "perhaps" is neither true nor false`,
			`SHARE: "a third" is no number`,
			`RETRIES: is negative`,
		}, e.Problems)
		require.Equal(t, "invalid configuration, 6 problems:\n  "+strings.Join(e.Problems, "\n  "), err.Error())
	})

	t.Run("says in plain words what is wrong with a number", func(t *testing.T) {
		t.Parallel()
		for value, want := range map[string]string{
			"many": `"many" is no whole number`, "1.5": `"1.5" is no whole number`, "99999999999999999999": "is too large",
		} {
			var cfg settings
			err := config.Load([]string{"DATABASE_URL=x", "RETRIES=" + value}, &cfg)
			require.ErrorContains(t, err, "invalid configuration: RETRIES: ")
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "strconv")
		}
	})

	t.Run("shows no password in an error", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		err := config.Load([]string{"DATABASE_URL=postgres://app:hunter2@db:port/shop"}, &cfg)
		require.ErrorContains(t, err, "DATABASE_URL: is no URL")
		require.NotContains(t, err.Error(), "hunter2")
	})

	t.Run("trims the elements of a list", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		require.NoError(t, config.Load([]string{"DATABASE_URL=x", "CRITICAL=postgres, redis,"}, &cfg))
		require.Equal(t, []string{"postgres", "redis"}, cfg.Critical)
	})

	t.Run("ignores variables that it does not know", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		require.NoError(t, config.Load([]string{"DATABASE_URL=x", "DATABASE_URI=y", "=", "noise"}, &cfg))
	})

	t.Run("an empty variable counts as unset", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		require.ErrorContains(t, config.Load([]string{"DATABASE_URL="}, &cfg), "DATABASE_URL: is required and not set")
	})
}

func TestLoad_prefix(t *testing.T) {
	t.Parallel()
	var cfg struct {
		Payment   server `envPrefix:"PAYMENT_"`
		Inventory server `envPrefix:"INVENTORY_"`
	}
	environ := []string{"PAYMENT_ADDR=payment:50052", "INVENTORY_ADDR=inventory:50053", "ADDR=neither"}
	require.NoError(t, config.Load(environ, &cfg))
	require.Equal(t, "payment:50052", cfg.Payment.Addr)
	require.Equal(t, "inventory:50053", cfg.Inventory.Addr)

	var out bytes.Buffer
	require.NoError(t, config.Print(&out, environ, &cfg))
	require.Regexp(t, `INVENTORY_ADDR +inventory:50053 +environment`, out.String())
	require.ErrorContains(t, config.Load([]string{"PAYMENT_RETRIES=many"}, &cfg), "PAYMENT_RETRIES: ")

	refused := []string{"PAYMENT_RETRIES=-1", "INVENTORY_RETRIES=-1", "INVENTORY_TIMEOUT=5"}
	require.EqualError(t, config.Load(refused, &cfg), "invalid configuration, 3 problems:\n"+
		"  INVENTORY_TIMEOUT: \"5\" is no duration: write for example 5s, 250ms or 1m30s\n"+
		"  PAYMENT_RETRIES: is negative\n  INVENTORY_RETRIES: is negative")
}

func TestPrint(t *testing.T) {
	t.Parallel()
	environ := []string{
		"DATABASE_URL=postgres://app:p@ss:word@db:5432/shop?sslmode=disable", "TOKEN=very-secret", "CRITICAL=a,b",
	}
	cfg := settings{internal: "not shown"}
	require.NoError(t, config.Load(environ, &cfg))
	var out bytes.Buffer
	require.NoError(t, config.Print(&out, environ, &cfg))

	require.Equal(t, `NAME          VALUE                                               SOURCE
ADDR          :50051                                              default
TIMEOUT       0s                                                  default
RETRIES       0                                                   default
DATABASE_URL  postgres://app:******@db:5432/shop?sslmode=disable  environment
TOKEN         ******                                              environment
CRITICAL      a,b                                                 environment
LEVEL         -                                                   default
DEBUG         false                                               default
SHARE         0                                                   default
`, out.String())
}

func TestPrint_masksKeywordPasswords(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"host=db password=hunter2 user=app", "host=db password='hunter2 x' user=app", "redis://r?password=hunter2", "redis://:hunter2@r:6379", "nats://hunter2@n:4222", "nats://a:hunter2@n,nats://b:hunter2@n"} {
		environ := []string{"DATABASE_URL=" + dsn}
		var cfg settings
		require.NoError(t, config.Load(environ, &cfg))
		var out bytes.Buffer
		require.NoError(t, config.Print(&out, environ, &cfg))
		require.NotContains(t, out.String(), "hunter2")
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	s := config.Secret("hunter2")
	encoded, err := json.Marshal(map[string]any{"s": s})
	require.NoError(t, err)
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("start", "token", s)
	zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&logged), zap.InfoLevel)).
		Info("start", zap.Any("token", s), zap.Stringer("token", s))

	for _, shown := range []string{fmt.Sprint(s), string(encoded), logged.String(), fmt.Errorf("bad token %w", fmt.Errorf("%v", s)).Error()} {
		require.NotContains(t, shown, "hunter2")
		require.Contains(t, shown, "******")
	}
	for _, verb := range []string{"%s", "%q", "%v", "%+v", "%#v", "%x", "%d", "%10s", "%t"} {
		require.NotContains(t, fmt.Sprintf(verb, s), "hunter2", verb)
		require.NotContains(t, fmt.Sprintf(verb, s), fmt.Sprintf("%x", "hunter2"), verb)
		require.Contains(t, fmt.Sprintf(verb, settings{Token: s}), "******", verb)
	}
	require.Equal(t, `"******"`, fmt.Sprintf("%#v", s))
	require.Equal(t, "hunter2", s.Reveal())
	require.Empty(t, config.Secret("").String())
	require.Empty(t, fmt.Sprint(config.Secret("")))
}
