package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPulse(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	p := newPulse(start)

	p.beat(at(5))
	p.beat(at(12)) // a timer that is a little late
	require.Zero(t, p.stalled(at(17)))
	require.Equal(t, 95*time.Millisecond, p.stalled(at(112)), "a stall counts before its end was noticed")
	p.beat(at(112))
	p.beat(at(117))
	p.beat(at(142))
	require.Equal(t, 115*time.Millisecond, p.stalled(at(142)))
	require.Equal(t, 95*time.Millisecond, p.longest)
}
