package commandtest

import (
	"bytes"
	"sync"
)

// Notes is what a command has said so far on its error output. It is safe for concurrent
// use.
type Notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (n *Notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

// String returns all of it.
func (n *Notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}
