package redisdb

import "sync"

// maxUnsent bounds the memory that invalidations may take while Redis is away; what comes on
// top is left to the TTL. sendAtOnce bounds how many go into one pipeline.
const (
	maxUnsent  = 10_000
	sendAtOnce = 500
)

// backlog remembers the invalidations that Redis did not take. The zero value is empty.
type backlog struct {
	mu       sync.Mutex
	versions map[string]int64

	draining sync.Mutex
}

// add remembers that nothing older than version may be read for key.
func (b *backlog) add(key string, version int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.versions == nil {
		b.versions = map[string]int64{}
	}
	if held, ok := b.versions[key]; ok || len(b.versions) < maxUnsent {
		b.versions[key] = max(held, version)
	}
}

// floor returns the lowest version that may be read for key.
func (b *backlog) floor(key string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.versions[key]
}

// drain sends everything in portions and forgets what was sent. Only one caller drains; the
// others go on at once.
func (b *backlog) drain(send func(map[string]int64) error) error {
	if b.empty() || !b.draining.TryLock() {
		return nil
	}
	defer b.draining.Unlock()
	for portion := b.portion(); len(portion) > 0; portion = b.portion() {
		if err := send(portion); err != nil {
			return err
		}
		b.forget(portion)
	}
	return nil
}

func (b *backlog) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.versions) == 0
}

func (b *backlog) portion() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	portion := make(map[string]int64, min(len(b.versions), sendAtOnce))
	for key, version := range b.versions {
		if len(portion) == sendAtOnce {
			break
		}
		portion[key] = version
	}
	return portion
}

// forget drops what was sent, unless a newer version came meanwhile.
func (b *backlog) forget(sent map[string]int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, version := range sent {
		if b.versions[key] == version {
			delete(b.versions, key)
		}
	}
}
