package grpcserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.pem = certificate(t, "test authority", nil)
	return a
}

// issue returns a certificate and key in PEM.
func (a *authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	_, private, cert := certificate(t, name, a)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func certificate(t *testing.T, name string, by *authority) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// identity is a certificate on disk.
type identity struct{ cert, key, ca string }

func (i identity) write(t *testing.T, cert, key []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(i.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(i.key, key, 0o600))
}

func newIdentity(t *testing.T, a *authority, name string) identity {
	t.Helper()
	dir := t.TempDir()
	i := identity{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")}
	cert, key := a.issue(t, name)
	i.write(t, cert, key)
	require.NoError(t, os.WriteFile(i.ca, a.pem, 0o600))
	return i
}

func (b *bundle) over(t *testing.T, cfg *tls.Config) orderv1.OrderServiceClient {
	t.Helper()
	return orderv1.NewOrderServiceClient(dial(t, b.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(cfg))))
}

// presented returns the common name of the certificate that the server presents.
func (b *bundle) presented(t *testing.T, pool *x509.CertPool) string {
	t.Helper()
	conn, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestServer_tls(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	id := newIdentity(t, ca, "first")
	b := setup(t, grpcserver.Config{TLS: grpcserver.TLS{CertFile: id.cert, KeyFile: id.key}, ProbeAddr: "127.0.0.1:0"})

	t.Run("serves clients that trust its authority", func(t *testing.T) {
		_, err := b.over(t, &tls.Config{RootCAs: ca.pool()}).GetOrder(within(t), getOrder)
		require.NoError(t, err)
	})
	t.Run("serves nothing in plaintext", func(t *testing.T) {
		_, err := b.client.GetOrder(within(t), getOrder)
		require.Equal(t, codes.Unavailable, status.Code(err))
	})
	t.Run("speaks nothing older than TLS 1.2", func(t *testing.T) {
		_, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		require.ErrorContains(t, err, "protocol version")
	})
	t.Run("answers probes in plaintext, and nothing but probes", func(t *testing.T) {
		conn := dial(t, b.ProbeAddr())
		got, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{Service: "liveness"})
		require.NoError(t, err)
		require.Equal(t, healthpb.HealthCheckResponse_SERVING, got.GetStatus())
		_, err = orderv1.NewOrderServiceClient(conn).GetOrder(within(t), getOrder)
		require.Equal(t, codes.Unimplemented, status.Code(err))
	})
	t.Run("takes a renewed certificate without a restart, and keeps it when the next is broken", func(t *testing.T) {
		require.Equal(t, "first", b.presented(t, ca.pool()))
		cert, key := ca.issue(t, "second")
		id.write(t, cert, key)
		require.Eventually(t, func() bool { return b.presented(t, ca.pool()) == "second" }, patience, 10*time.Millisecond)

		id.write(t, []byte("half a certifi"), key)
		broken := b.logs.FilterMessage("changed TLS files cannot be used, keeping the ones before")
		require.Eventually(t, func() bool {
			require.Equal(t, "second", b.presented(t, ca.pool()))
			broken = b.logs.FilterMessage("changed TLS files cannot be used, keeping the ones before")
			return broken.Len() == 1
		}, patience, 10*time.Millisecond)

		cert, key = ca.issue(t, "third")
		id.write(t, cert, key)
		require.Eventually(t, func() bool { return b.presented(t, ca.pool()) == "third" }, patience, 10*time.Millisecond)
	})
}

func TestServer_mutualTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	id := newIdentity(t, ca, "server")
	b := setup(t, grpcserver.Config{TLS: grpcserver.TLS{CertFile: id.cert, KeyFile: id.key, ClientCAFile: id.ca}})
	with := func(a *authority) *tls.Config {
		cert, key := a.issue(t, "client")
		pair, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		return &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{pair}}
	}
	_, err := b.over(t, with(ca)).GetOrder(within(t), getOrder)
	require.NoError(t, err)
	_, err = b.over(t, &tls.Config{RootCAs: ca.pool()}).GetOrder(within(t), getOrder)
	require.Equal(t, codes.Unavailable, status.Code(err), "no certificate")
	_, err = b.over(t, with(stranger)).GetOrder(within(t), getOrder)
	require.Equal(t, codes.Unavailable, status.Code(err), "a certificate of somebody else")

	require.NoError(t, os.WriteFile(id.ca, append(ca.pem, stranger.pem...), 0o600))
	require.Eventually(t, func() bool {
		_, err := b.over(t, with(stranger)).GetOrder(within(t), getOrder)
		return err == nil
	}, patience, 50*time.Millisecond, "authorities are reloaded too")
}

func TestNew_refusesTLSFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, newAuthority(t), "server")
	monitor := newBundle(t, grpcserver.Config{}).monitor
	for name, files := range map[string]grpcserver.TLS{
		"load TLS certificate":                        {CertFile: id.cert, KeyFile: "missing"},
		"load TLS client authorities: open missing":   {CertFile: id.cert, KeyFile: id.key, ClientCAFile: "missing"},
		"load TLS client authorities: no certificate": {CertFile: id.cert, KeyFile: id.key, ClientCAFile: id.key},
	} {
		_, err := grpcserver.New(grpcserver.Config{TLS: files}, monitor)
		require.ErrorContains(t, err, name)
	}
}
