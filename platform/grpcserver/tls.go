package grpcserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// certificateCheck is how often, at most, the files are looked at.
const certificateCheck = time.Second

// certificates is the server's TLS identity, read again when its files change.
type certificates struct {
	files  TLS
	logger *zap.Logger

	mu      sync.Mutex
	checked time.Time
	stamps  [3]stamp
	config  *tls.Config
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func loadCertificates(files TLS, logger *zap.Logger) (*certificates, error) {
	c := &certificates{files: files, logger: logger, checked: time.Now()}
	c.stamps = c.stat()
	var err error
	if c.config, err = files.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
	}
}

// current returns the configuration for a new connection. Files that cannot be used are
// logged once a version, and what was read before stays in force: a half-written pair must
// not close the service.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.checked) < certificateCheck {
		return c.config
	}
	c.checked = now
	stamps := c.stat()
	if stamps == c.stamps {
		return c.config
	}
	c.stamps = stamps
	config, err := c.files.load()
	if err != nil {
		c.logger.Error("changed TLS files cannot be used, keeping the ones before", zap.Error(err))
		return c.config
	}
	c.config = config
	c.logger.Info("TLS files reloaded", zap.String("cert_file", c.files.CertFile))
	return c.config
}

// stat returns the files' stamps; a file that is missing has the zero stamp.
func (c *certificates) stat() (stamps [3]stamp) {
	for i, name := range []string{c.files.CertFile, c.files.KeyFile, c.files.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}

func (t TLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load TLS certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if t.ClientCAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("load TLS client authorities: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("load TLS client authorities: no certificate in " + t.ClientCAFile)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
