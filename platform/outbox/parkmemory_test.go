package outbox

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// countingShelf is a shelf of which only the number of events is asked.
type countingShelf struct{ shelf }

func (countingShelf) count(context.Context) (int64, error) { return 1, nil }

// An aggregate may be parked for days. Seen to fail when its name is part of the text that was read with it.
func TestTerm_parksWithoutTheEvents(t *testing.T) {
	t.Parallel()
	m, err := newMetrics("test", nil)
	require.NoError(t, err)
	term := &term{Relay: &Relay{m: m, shelf: countingShelf{}}, parked: map[aggregate]bool{}}
	freed := make(chan struct{})
	func() {
		text := "order/7" + strings.Repeat(".", 1<<20) // and what others say
		runtime.AddCleanup(unsafe.StringData(text), func(freed chan struct{}) { close(freed) }, freed)
		e := &stored{words: words{text: text, ends: [parts]uint32{partAggregateType: 5, partSlash: 6, partAggregateID: 7}}}
		p := parking{}
		p.first(e, errors.New("poison"), 1, never)
		require.NoError(t, term.park(t.Context(), p))
	}()
	require.Equal(t, map[aggregate]bool{{"order", "7"}: true}, term.parked)
	require.Eventually(t, func() bool {
		runtime.GC()
		select {
		case <-freed:
			return true
		default:
			return false
		}
	}, time.Minute, time.Millisecond)
	runtime.KeepAlive(term)
}
