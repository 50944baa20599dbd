package grpcserver

import (
	"net"
	"sync"
	"time"
)

// listener knows which of its connections are still shaking hands. grpc-go waits for them
// before it tells anyone to go away, so that a connection on which nothing is ever sent
// would hold up the drain for the whole connection timeout.
type listener struct {
	*net.TCPListener

	mu      sync.Mutex
	pending map[*conn]struct{}
	dropped bool
	// settled is closed when the listener is closed and no handshake is pending.
	settled chan struct{}
	closed  bool
}

func listen(addr string) (*listener, error) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{
		TCPListener: lis.(*net.TCPListener),
		pending:     make(map[*conn]struct{}),
		settled:     make(chan struct{}),
	}, nil
}

// addr is nil for a listener that is not open.
func (l *listener) addr() net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: raw, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped {
		_ = raw.Close()
	}
	l.pending[c] = struct{}{}
	return c, nil
}

// Close implements [net.Listener].
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.settle()
	}
	return l.TCPListener.Close()
}

// dropPending closes the connections that are still shaking hands.
func (l *listener) dropPending() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropped = true
	for c := range l.pending {
		_ = c.TCPConn.Close()
	}
}

// done forgets a connection whose handshake ended, well or badly.
func (l *listener) done(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.pending[c]; ok {
		delete(l.pending, c)
		l.settle()
	}
}

func (l *listener) settle() {
	if l.closed && len(l.pending) == 0 {
		select {
		case <-l.settled:
		default:
			close(l.settled)
		}
	}
}

// conn is a connection of a listener. grpc-go takes the deadline away when it is done with
// the handshake: that is how the listener learns of it. All else of the TCP connection shows
// through, so that grpc-go holds no read buffer for one that is idle.
type conn struct {
	*net.TCPConn
	listener *listener
}

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.listener.done(c)
	}
	return c.TCPConn.SetDeadline(t)
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.listener.done(c)
	return c.TCPConn.Close()
}
