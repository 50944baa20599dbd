package outbox

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// rowOf is an event as the database sends it.
func rowOf(id int, payload string) [][]byte {
	event := uuid.New()
	return [][]byte{
		binary.BigEndian.AppendUint64(nil, 7), fmt.Append(nil, id), binary.BigEndian.AppendUint64(nil, 1_000_000), []byte("1"), event[:], []byte("1"),
		[]byte("order"), fmt.Append(nil, "o-", id), []byte("order.placed"), []byte(payload), []byte("{}"), []byte("t"),
	}
}

// The events of one window are published while the next one is read. Seen to fail with payloads read into those of
// the window before.
func TestRowReader_keepsWhatItGaveOut(t *testing.T) {
	t.Parallel()
	var r rowReader
	read := func(first int) []stored {
		for i := range 3 {
			require.NoError(t, r.add(rowOf(first+i, fmt.Sprint("payload ", first+i))))
		}
		return r.done()
	}
	for windows, first := [][]stored{}, 0; first < 30; first += 10 {
		windows = append(windows, read(first))
		for w, events := range windows {
			require.Len(t, events, 3)
			for i := range events {
				id := 10*w + i
				require.EqualValues(t, id, events[i].id)
				require.Equal(t, fmt.Sprint("o-", id), events[i].aggregateID())
				require.Equal(t, fmt.Sprint("payload ", id), string(events[i].payload))
			}
		}
	}
}

// A relay is idle for long. Seen to fail without the bound of text, and without that of payloads.
func TestRowReader_keepsNoLargeBuffers(t *testing.T) {
	t.Parallel()
	var r rowReader
	row := rowOf(1, string(make([]byte, 2*aheadBytes)))
	row[6] = make([]byte, 2*aheadBytes)
	require.NoError(t, r.add(row))
	require.Len(t, r.done(), 1)
	require.LessOrEqual(t, cap(r.text), aheadBytes)
	require.NoError(t, r.add(rowOf(2, "small")))
	require.LessOrEqual(t, cap(r.payload), aheadBytes+aheadBytes/8)
}

// Seen to fail with buffers that begin without room.
func TestRowReader_allocates(t *testing.T) { //nolint:paralleltest // allocations of other tests would be counted
	var r rowReader
	rows := make([][][]byte, 100)
	for i := range rows {
		rows[i] = rowOf(i, "payload")
	}
	read := func() {
		for _, row := range rows {
			if err := r.add(row); err != nil {
				t.Fatal(err)
			}
		}
		r.done()
	}
	read()
	const events, words, payloads = 1, 1, 1
	require.Equal(t, events+words+payloads, int(testing.AllocsPerRun(100, read)))
}
