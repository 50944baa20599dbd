package provider

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Config is how the provider is reached.
type Config struct {
	// URL is where its API begins, for example https://payments.example.com.
	URL string `env:"PROVIDER_URL"`
	// Timeout bounds a call, with connecting. 0 means 5 seconds.
	Timeout time.Duration `env:"PROVIDER_TIMEOUT"`
	// MaxConns bounds the connections, and so the calls at one time; more wait. 0 means 64.
	MaxConns int `env:"PROVIDER_MAX_CONNS"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.MaxConns = cmp.Or(c.MaxConns, 64)
}

// Validate names every field that is wrong. An empty URL is not: who needs one says so.
func (c Config) Validate() error {
	var errs []error
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			errs = append(errs, errors.New("PROVIDER_URL: must be http(s)://host[:port][/path]"))
		}
	}
	if c.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("PROVIDER_TIMEOUT: %s is shorter than 1ms", c.Timeout))
	}
	if c.MaxConns < 1 {
		errs = append(errs, fmt.Errorf("PROVIDER_MAX_CONNS: %d is not positive", c.MaxConns))
	}
	return errors.Join(errs...)
}
