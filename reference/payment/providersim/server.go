package providersim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Server is a simulator with a ledger and a listener of its own.
type Server struct {
	ledger    *Ledger
	simulator *Simulator
	listener  net.Listener
	http      *http.Server
}

// Listen opens the ledger in a file and the listener at an address; port 0 picks a free one. Calls
// wait until Run. Without Run, Close gives both free.
func Listen(addr, ledger string) (*Server, error) {
	l, err := OpenLedger(ledger)
	if err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen for the payment provider: %w", err)
	}
	simulator := New(l)
	return &Server{
		ledger: l, simulator: simulator, listener: lis,
		http: &http.Server{Handler: simulator, ReadHeaderTimeout: 10 * time.Second},
	}, nil
}

// URL is where the provider is called.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Run serves until ctx ends, then cuts off what hangs and closes everything.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	err := s.http.Serve(s.listener)
	s.Close()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the payment provider: %w", err)
}

// Close ends the server and gives ledger and address free.
func (s *Server) Close() {
	_ = s.http.Close()
	_ = s.listener.Close()
	s.simulator.Close()
	_ = s.ledger.Close()
}
