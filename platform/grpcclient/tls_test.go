package grpcclient_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

func TestDial_plaintextOnlyWhenSaidSo(t *testing.T) {
	t.Parallel()
	server := serve(t)
	conn, err := grpcclient.Dial(grpcclient.Config{Target: server.addr})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	err = get(within(t), conn)
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "does not look like a TLS handshake")
	require.Zero(t, server.calls.Load())
}

func TestDial_mutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := issue(t, dir, "authority", nil)
	server, client := issue(t, dir, "orders.test", ca), issue(t, dir, "client", ca)
	pair, err := tls.LoadX509KeyPair(server.certFile, server.keyFile)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	replica := serve(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	})))
	caller := make(chan string, 1)
	replica.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
		p, _ := peer.FromContext(ctx)
		caller <- p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName
		return &orderv1.GetOrderResponse{}, nil
	}
	files := grpcclient.TLS{
		CAFile: ca.certFile, CertFile: client.certFile, KeyFile: client.keyFile, ServerName: "orders.test",
	}
	to := func(files grpcclient.TLS) *grpc.ClientConn {
		return dial(t, grpcclient.Config{Target: replica.addr, TLS: files})
	}

	t.Run("both sides prove who they are", func(t *testing.T) {
		require.NoError(t, get(within(t), to(files)))
		require.Equal(t, "client", <-caller)
	})
	t.Run("a renewed certificate is used by the next handshake", func(t *testing.T) {
		conn := to(files) // read for the first time here, before the files change
		renewed := issue(t, dir, "renewed", ca)
		require.NoError(t, os.Rename(renewed.certFile, client.certFile))
		require.NoError(t, os.Rename(renewed.keyFile, client.keyFile))
		require.NoError(t, get(within(t), conn))
		require.Equal(t, "renewed", <-caller)
	})
	t.Run("a server with another name is refused", func(t *testing.T) {
		other := files
		other.ServerName = "payments.test"
		require.ErrorContains(t, get(within(t), to(other)), "not payments.test")
	})
	t.Run("a server that the authorities do not know is refused", func(t *testing.T) {
		other := files
		other.CAFile = issue(t, dir, "stranger", nil).certFile
		require.ErrorContains(t, get(within(t), to(other)), "unknown authority")
	})
}

// identity is a certificate in memory and on disk.
type identity struct {
	cert              *x509.Certificate
	key               *ecdsa.PrivateKey
	certFile, keyFile string
}

// issue makes a certificate signed by an authority, or an authority when by is nil.
func issue(t *testing.T, dir, name string, by *identity) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	i := &identity{key: key, certFile: filepath.Join(dir, name+".crt"), keyFile: filepath.Join(dir, name+".key")}
	parent, signer := template, key
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	i.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	writePEM(t, i.certFile, "CERTIFICATE", der)
	writePEM(t, i.keyFile, "PRIVATE KEY", private)
	return i
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
