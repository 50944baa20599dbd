package grpcclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

func (c Config) credentials() (credentials.TransportCredentials, error) {
	if c.Insecure {
		return insecure.NewCredentials(), nil
	}
	config, err := c.TLS.load()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(config), nil
}

// load reads every file, so that one that cannot be used is known before the first call.
func (t TLS) load() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("load TLS authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("load TLS authorities: no certificate in " + t.CAFile)
		}
	}
	if t.CertFile == "" {
		return config, nil
	}
	if _, err := t.clientCertificate(nil); err != nil {
		return nil, err
	}
	config.GetClientCertificate = t.clientCertificate
	return config, nil
}

func (t TLS) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load TLS certificate: %w", err)
	}
	return &pair, nil
}
