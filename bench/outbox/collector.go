package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipwayhq/slipway/bench/outbox/internal/audit"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

// The collector is the broker of B5: relays in other processes send it batches over a
// unix socket, and it acknowledges each. A connection begins with the number of the
// sending process. A batch is a count and, for each event, the head of its payload.
const (
	numberSize = 4
	ack        = 1
)

// Now and then the broker is slow: it stalls one batch, before it stores it or before
// it acknowledges it.
const (
	stallEvery = 2 * time.Second
	stallFor   = 300 * time.Millisecond
)

type collector struct {
	arrived *audit.Delivery
	dir     string
	lis     net.Listener
	open    sync.WaitGroup

	active  atomic.Int64 // the process that sent the last batch, 0 once it was hit
	batches atomic.Int64
	stalled atomic.Int64 // when, in nanoseconds
}

func startCollector(ctx context.Context) (*collector, error) {
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "unix", filepath.Join(dir, "sink"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), os.RemoveAll(dir))
	}
	c := &collector{arrived: audit.NewDelivery(), dir: dir, lis: lis}
	c.open.Go(func() { c.accept(ctx) })
	return c, nil
}

func (c *collector) addr() string { return c.lis.Addr().String() }

// stop waits for what has been received. The senders must have ended.
func (c *collector) stop() error {
	err := c.lis.Close()
	c.open.Wait()
	return errors.Join(err, os.RemoveAll(c.dir))
}

func (c *collector) accept(ctx context.Context) {
	for {
		conn, err := c.lis.Accept()
		if err != nil {
			return
		}
		c.open.Go(func() {
			defer conn.Close()
			_ = c.receive(ctx, conn) // a sender that was killed stops in the middle
		})
	}
}

// receive counts a batch only when all of it has come.
func (c *collector) receive(ctx context.Context, conn net.Conn) error {
	in := bufio.NewReader(conn)
	pid, err := readNumber(in)
	if err != nil {
		return err
	}
	for {
		n, err := readNumber(in)
		if err != nil {
			return err
		}
		data := make([]byte, int(n)*system.PayloadHead)
		if _, err := io.ReadFull(in, data); err != nil {
			return err
		}
		events := make([]audit.Event, n)
		for i := range events {
			events[i].Aggregate, events[i].Version, events[i].Nonce, _ = system.Marked(data[i*system.PayloadHead:])
		}
		c.store(ctx, pid, events)
		if _, err := conn.Write([]byte{ack}); err != nil {
			return err
		}
	}
}

func (c *collector) store(ctx context.Context, pid uint32, events []audit.Event) {
	before, after := c.stall()
	sleep(ctx, before)
	c.arrived.Arrive(events...)
	c.batches.Add(1)
	c.active.Store(int64(pid))
	sleep(ctx, after)
}

// stall draws whether it is time to be slow.
func (c *collector) stall() (before, after time.Duration) {
	last, now := c.stalled.Load(), time.Now().UnixNano()
	switch {
	case now-last < int64(stallEvery) || !c.stalled.CompareAndSwap(last, now):
		return 0, 0
	case rand.IntN(2) == 0:
		return stallFor, 0
	default:
		return 0, stallFor
	}
}

func readNumber(r io.Reader) (uint32, error) {
	var data [numberSize]byte
	if _, err := io.ReadFull(r, data[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(data[:]), nil
}

// remote publishes to a collector. Its methods may be called concurrently.
type remote struct {
	mu   sync.Mutex
	conn net.Conn
}

func dialCollector(ctx context.Context, addr string) (*remote, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to collector: %w", err)
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, uint32(os.Getpid()))); err != nil {
		return nil, fmt.Errorf("connect to collector: %w", err)
	}
	return &remote{conn: conn}, nil
}

func (r *remote) close() { _ = r.conn.Close() }

// Publish implements broker.Publisher. It waits for the acknowledgement however long
// that takes: the collector always answers.
func (r *remote) Publish(_ context.Context, messages []broker.Message) error {
	data := binary.BigEndian.AppendUint32(make([]byte, 0, numberSize+len(messages)*system.PayloadHead), uint32(len(messages)))
	for i := range messages {
		data = append(data, messages[i].Payload[:system.PayloadHead]...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.conn.Write(data); err != nil {
		return fmt.Errorf("%w: send to collector: %w", broker.ErrUnavailable, err)
	}
	if _, err := io.ReadFull(r.conn, make([]byte, 1)); err != nil {
		return fmt.Errorf("%w: wait for collector: %w", broker.ErrUnavailable, err)
	}
	return nil
}
