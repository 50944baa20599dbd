package outbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// snapshot says of every transaction whether it had committed or aborted at one
// moment: PostgreSQL's pg_snapshot.
type snapshot struct {
	// below xmin all were over; from xmax on none was.
	xmin, xmax uint64
	// running are those between that were not over, ascending.
	running []uint64
	text    string
}

func parseSnapshot(text string) (snapshot, error) {
	s := snapshot{text: text}
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return s, fmt.Errorf("parse snapshot %q: three parts expected", text)
	}
	var err error
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err == nil {
		s.xmax, err = strconv.ParseUint(parts[1], 10, 64)
	}
	if err != nil {
		return s, fmt.Errorf("parse snapshot %q: %w", text, err)
	}
	if parts[2] == "" {
		return s, nil
	}
	for number := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return s, fmt.Errorf("parse snapshot %q: %w", text, err)
		}
		s.running = append(s.running, xid)
	}
	return s, nil
}

// sees tells whether the transaction was over.
func (s snapshot) sees(xid uint64) bool {
	if xid < s.xmin {
		return true
	}
	if xid >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.running, xid)
	return !running
}

// late returns, as text, those that were running in s and are over in next.
func (s snapshot) late(next snapshot) []string {
	late := []string{}
	for _, xid := range s.running {
		if next.sees(xid) {
			late = append(late, strconv.FormatUint(xid, 10))
		}
	}
	return late
}

// runningText returns the running transactions as text.
func (s snapshot) runningText() []string {
	all := make([]string, len(s.running))
	for i, xid := range s.running {
		all[i] = strconv.FormatUint(xid, 10)
	}
	return all
}
