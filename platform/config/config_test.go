package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
		errs = append(errs, errors.New("retries are negative"))
	}
	if s.Timeout < 0 {
		errs = append(errs, errors.New("timeout is negative"))
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
	internal string
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

	t.Run("names every variable that cannot be read, at once", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		err := config.Load([]string{"TIMEOUT=10", "RETRIES=many", "LEVEL=middle", "DEBUG=perhaps"}, &cfg)
		var e *config.Error
		require.ErrorAs(t, err, &e)
		require.Len(t, e.Problems, 5)
		for i, want := range []string{
			`TIMEOUT: "10" is no duration: write for example 5s`, `RETRIES: `, `DATABASE_URL: is required and not set`,
			`LEVEL: "middle" is neither low nor high`, `DEBUG: `,
		} {
			require.Contains(t, e.Problems[i], want)
		}
	})

	t.Run("names every value that a component refuses, at once", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		err := config.Load([]string{"DATABASE_URL=x", "RETRIES=-1", "TIMEOUT=-1s"}, &cfg)
		require.EqualError(t, err, "invalid configuration, 2 problems:\n  retries are negative\n  timeout is negative")
	})

	t.Run("an empty variable counts as unset", func(t *testing.T) {
		t.Parallel()
		var cfg settings
		require.ErrorContains(t, config.Load([]string{"DATABASE_URL="}, &cfg), "DATABASE_URL: is required and not set")
	})
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

	require.Equal(t, `VARIABLE      VALUE                                               SOURCE
ADDR          :50051                                              default
TIMEOUT       0s                                                  default
RETRIES       0                                                   default
DATABASE_URL  postgres://app:******@db:5432/shop?sslmode=disable  environment
TOKEN         ******                                              environment
CRITICAL      a,b                                                 environment
LEVEL         -                                                   default
DEBUG         false                                               default
`, out.String())
}

func TestPrint_masksKeywordPasswords(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"host=db password=hunter2 user=app", "host=db password='hunter2 x' user=app", "redis://r?password=hunter2"} {
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
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%s %q %v %+v %#v", s, s, s, s, s), string(encoded)} {
		require.NotContains(t, shown, "hunter2")
		require.Contains(t, shown, "******")
	}
	require.Equal(t, "hunter2", s.Reveal())
	require.Empty(t, config.Secret("").String())
}
