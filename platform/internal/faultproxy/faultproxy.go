// Package faultproxy puts a TCP proxy with switchable faults between a client and the server
// under test, so that tests meet a slow, silent or vanished server over a real connection.
package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// chunk is how many bytes are read at once; Delay and BytesPerSecond count in chunks.
const chunk = 16 << 10

// Fault is what the proxy does to its traffic. The zero value passes everything on.
// Faults may be combined.
type Fault struct {
	// Delay is how long each chunk of at most 16 KiB is held, in both directions.
	Delay time.Duration
	// BytesPerSecond limits each direction of each connection; 0 means no limit.
	BytesPerSecond int
	// Stall holds all bytes until the fault is lifted, as a paused server does.
	// New connections are accepted and stay silent.
	Stall bool
	// Drop swallows all bytes, as a network that loses packets for good does. A connection
	// that lost bytes is of no use after the fault is lifted: Cut it.
	Drop bool
	// Refuse resets new connections; those that are open keep working.
	Refuse bool
}

// Proxy passes connections on to a target and does its Fault to them.
// Its methods may be called at any time from any goroutine.
type Proxy struct {
	target   string
	listener net.Listener
	done     chan struct{}
	running  sync.WaitGroup

	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed when fault is replaced
	open    map[*net.TCPConn]struct{}
}

// Start listens on a free loopback port and passes connections on to target (host:port).
// The proxy is closed when the test ends.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen for the fault proxy: %v", err)
	}
	p := &Proxy{
		target:   target,
		listener: listener,
		done:     make(chan struct{}),
		changed:  make(chan struct{}),
		open:     map[*net.TCPConn]struct{}{},
	}
	p.running.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Addr returns the host:port that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetFault replaces the fault, for open connections too. SetFault(Fault{}) heals.
func (p *Proxy) SetFault(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut resets all open connections. New ones are treated as the fault says.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		reset(conn)
	}
}

// Close stops listening, resets all connections and returns when every goroutine has ended.
// Closing again does nothing.
func (p *Proxy) Close() {
	p.mu.Lock()
	select {
	case <-p.done:
	default:
		close(p.done)
		p.listener.Close()
	}
	p.mu.Unlock()
	p.Cut()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		client := conn.(*net.TCPConn)
		if f, _ := p.current(); f.Refuse || !p.track(client) {
			reset(client)
			continue
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	defer p.drop(client)
	conn, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	if !p.track(server) {
		reset(server)
		return
	}
	defer p.drop(server)
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(client, server) })
	pumps.Go(func() { p.pump(server, client) })
	pumps.Wait()
}

// pump copies one direction. The end of the stream is passed on, an error resets both sides.
func (p *Proxy) pump(from, to *net.TCPConn) {
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.pass(n) {
			if _, werr := to.Write(buffer[:n]); werr != nil {
				err = werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = to.CloseWrite()
			return
		case err != nil:
			reset(from)
			reset(to)
			return
		}
	}
}

// pass waits as the fault demands and tells whether n bytes may be passed on.
func (p *Proxy) pass(n int) bool {
	for {
		f, changed := p.current()
		switch {
		case f.Drop:
			return false
		case f.Stall:
			select {
			case <-changed:
				continue
			case <-p.done:
				return false
			}
		}
		wait := f.Delay
		if f.BytesPerSecond > 0 {
			wait += time.Duration(n) * time.Second / time.Duration(f.BytesPerSecond)
		}
		if wait == 0 {
			return true
		}
		select {
		case <-time.After(wait):
			return true
		case <-p.done:
			return false
		}
	}
}

func (p *Proxy) current() (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.changed
}

// track remembers conn for Cut and Close; it is false once the proxy is closed.
func (p *Proxy) track(conn *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
		p.open[conn] = struct{}{}
		return true
	}
}

func (p *Proxy) drop(conn *net.TCPConn) {
	p.mu.Lock()
	delete(p.open, conn)
	p.mu.Unlock()
	conn.Close()
}

// reset closes conn with a RST instead of the orderly end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}
