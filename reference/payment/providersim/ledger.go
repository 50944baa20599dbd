package providersim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Effect is what happened to the money of a charge.
type Effect string

// The effects. Each happens to a key once at most.
const (
	Authorized Effect = "authorized"
	Declined   Effect = "declined"
	Voided     Effect = "voided"
	Captured   Effect = "captured"
	Refunded   Effect = "refunded"
)

// Entry is a line of the ledger.
type Entry struct {
	Effect Effect `json:"effect"`
	// Key is the one that the caller chose for the charge.
	Key    string `json:"key"`
	Amount Amount `json:"amount"`
	// Reason says why the charge was declined.
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Amount is an amount in the minor unit of a currency.
type Amount struct {
	Currency string `json:"currency"`
	Minor    int64  `json:"minor"`
}

// Ledger is an append-only file of JSON lines, one for each effect. What it has taken is on the disk:
// it survives the end of the process and of the machine. It is safe for concurrent use; the file
// belongs to one process at a time.
type Ledger struct {
	mu      sync.Mutex
	file    *os.File
	entries []Entry
	broken  error

	sync   sync.Mutex // held by whoever syncs; the others wait, and then mostly need not
	synced int        // how many entries are on the disk
}

// OpenLedger opens the ledger in a file, or creates it, with its folder. What a crash left of a last
// line is cut off: nobody was told of it. It fails when another process has the file.
func OpenLedger(name string) (*Ledger, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("create folder of ledger: %w", err)
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{file: file}
	if err := l.load(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open ledger %s: %w", name, err)
	}
	return l, nil
}

// Append stores an entry and returns when it is on the disk. Entries that come at the same time share
// the wait. After a failure the ledger takes nothing more.
func (l *Ledger) Append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode ledger entry: %w", err)
	}
	n, err := l.write(e, append(line, '\n'))
	if err != nil {
		return err
	}
	l.sync.Lock()
	defer l.sync.Unlock()
	if l.synced >= n {
		return nil
	}
	l.mu.Lock()
	written := len(l.entries)
	l.mu.Unlock()
	if err := l.file.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync ledger: %w", err))
	}
	l.synced = written
	return nil
}

// Entries returns all entries, oldest first.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

// Close gives the file free. It unlocks before it closes: a child that is being started holds a
// copy of every open file until it execs, and with that the lock.
func (l *Ledger) Close() error {
	_ = l.fail(errors.New("ledger is closed"))
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}

func (l *Ledger) write(e Entry, line []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return 0, l.broken
	}
	if _, err := l.file.Write(line); err != nil {
		l.broken = fmt.Errorf("write ledger: %w", err)
		return 0, l.broken
	}
	l.entries = append(l.entries, e)
	return len(l.entries), nil
}

func (l *Ledger) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.broken = err
	}
	return l.broken
}

func (l *Ledger) load() error {
	if err := syscall.Flock(int(l.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("it is in use by another process: %w", err)
	}
	text, err := os.ReadFile(l.file.Name())
	if err != nil {
		return err
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	for number, line := range bytes.Split(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n")) {
		if len(whole) == 0 {
			break
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %d: %w", number+1, err)
		}
		l.entries = append(l.entries, e)
	}
	l.synced = len(l.entries)
	if len(whole) == len(text) {
		return nil
	}
	if err := l.file.Truncate(int64(len(whole))); err != nil {
		return err
	}
	return l.file.Sync()
}
