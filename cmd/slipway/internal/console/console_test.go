package console_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	c := console.New(os.Stdin, os.Stdout, io.Discard, nil)
	_ = console.WriteTable(c, []string{"SERVICE", "STATE"}, [][]string{{"order", "ready"}})
	// Output:
	// SERVICE  STATE
	// order    ready
}

func TestConsole(t *testing.T) {
	t.Parallel()

	t.Run("never mixes lines", func(t *testing.T) {
		t.Parallel()
		var out, problem bytes.Buffer
		c := console.New(strings.NewReader(""), &out, &problem, nil)
		var writers sync.WaitGroup
		for range 8 {
			writers.Go(func() {
				for range 100 {
					c.Printf("%s", strings.Repeat("x", 50))
					c.Notef("%s", strings.Repeat("y", 50))
				}
			})
		}
		writers.Wait()
		require.Equal(t, strings.Repeat(strings.Repeat("x", 50)+"\n", 800), out.String())
		require.Equal(t, strings.Repeat(strings.Repeat("y", 50)+"\n", 800), problem.String())
		require.False(t, c.Colour(), "a buffer is no terminal")
	})

	t.Run("notices that nobody reads any more", func(t *testing.T) {
		t.Parallel()
		reader, writer, err := os.Pipe()
		require.NoError(t, err)
		defer writer.Close()
		c := console.New(nil, writer, io.Discard, nil)
		c.Printf("one")
		select {
		case <-c.Broken():
			require.Fail(t, "somebody reads still")
		default:
		}
		require.NoError(t, reader.Close())
		c.Printf("two")
		c.Printf("three")
		<-c.Broken()
	})

	t.Run("does not take silence for consent", func(t *testing.T) {
		t.Parallel()
		null, err := os.Open(os.DevNull)
		require.NoError(t, err)
		defer null.Close()
		for _, in := range []io.Reader{strings.NewReader("y\n"), null} {
			ok, err := console.New(in, io.Discard, io.Discard, nil).Confirm("Delete everything?")
			require.ErrorIs(t, err, console.ErrNotAsked)
			require.False(t, ok)
		}
	})
}

func TestProgress(t *testing.T) {
	t.Parallel()

	t.Run("says elsewhere than on a terminal what begins and what has ended", func(t *testing.T) {
		t.Parallel()
		var lines bytes.Buffer
		p := console.New(nil, io.Discard, &lines, nil).Progress()
		build, start := p.Start("building order"), p.Start("starting Redis")
		build.Done("built %s", "order")
		start.Fail()
		require.Regexp(t, `^  … building order\n  … starting Redis\n  ✓ built order \(\d\.\d s\)\n  ✗ starting Redis \(\d\.\d s\)\n$`, lines.String())
	})
}

func TestFormat(t *testing.T) {
	t.Parallel()
	f := console.Table
	require.NoError(t, f.Set("json"))
	require.Equal(t, console.JSON, f)
	require.EqualError(t, f.Set("xml"), "want table or json")

	var out bytes.Buffer
	require.NoError(t, console.WriteJSON(&out, map[string]string{"url": "a?b&c"}))
	require.Equal(t, "{\n  \"url\": \"a?b&c\"\n}\n", out.String()) //nolint:testifylint // the layout counts
	require.ErrorContains(t, console.WriteJSON(failing{}, 1), "write JSON")
	require.ErrorContains(t, console.WriteTable(failing{}, nil, nil), "write table")
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("broken") }
