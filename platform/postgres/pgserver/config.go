package pgserver

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Config says where and how a server runs. Only Dir is required.
type Config struct {
	// Dir holds everything that belongs to the server and is created when
	// missing. The data in it survives restarts.
	Dir string
	// Port on 127.0.0.1. 0 takes a free one, which Restart then keeps.
	Port int
	// BinDir holds initdb and postgres. Empty searches PATH and the usual
	// places, and prefers the major version that made the data.
	BinDir string
	// Fast gives up durability for speed (no fsync): for tests only.
	Fast bool
	// Settings are further server settings, such as "max_connections": "200".
	Settings map[string]string
	// StartTimeout bounds Start with all that it does. 0 means one minute.
	StartTimeout time.Duration
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.StartTimeout = cmp.Or(c.StartTimeout, time.Minute)
}

// ownSettings are decided by this package.
var ownSettings = []string{"cluster_name", "data_directory", "listen_addresses", "port", "unix_socket_directories"}

// Validate names every field that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: must be set"))
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port: %d is not between 0 and 65535", c.Port))
	}
	if c.StartTimeout < 0 {
		errs = append(errs, fmt.Errorf("start timeout: %s is negative", c.StartTimeout))
	}
	for _, name := range ownSettings {
		if _, ok := c.Settings[name]; ok {
			errs = append(errs, fmt.Errorf("settings: %s cannot be set", name))
		}
	}
	return errors.Join(errs...)
}

// layout is where the parts of a server's folder are.
type layout struct{ dir string }

func (l layout) data() string     { return filepath.Join(l.dir, "data") }
func (l layout) fresh() string    { return filepath.Join(l.dir, "data.new") }
func (l layout) password() string { return filepath.Join(l.dir, "password") }
func (l layout) log() string      { return filepath.Join(l.dir, "postgres.log") }
func (l layout) run() string      { return filepath.Join(l.dir, "run") }
func (l layout) lock() string     { return filepath.Join(l.dir, "lock") }
func (l layout) pidFile() string  { return filepath.Join(l.data(), "postmaster.pid") }

func newLayout(dir string) (layout, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, fmt.Errorf("resolve folder %s: %w", dir, err)
	}
	return layout{dir: abs}, nil
}

// clusterName marks the server's processes: it is part of their titles.
func (l layout) clusterName() string {
	sum := sha256.Sum256([]byte(l.dir))
	return fmt.Sprintf("slipway-%x", sum[:4])
}
