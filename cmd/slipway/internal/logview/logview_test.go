package logview_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/logview"
)

func Example() {
	view := logview.New(os.Stdout, logview.Text, false, []string{"order", "payment"})
	fmt.Fprintln(view.Stream("order"), `{"level":"info","msg":"order placed","service":"order","order_id":"42","trace_id":"4bf9"}`)
	fmt.Fprintln(view.Stream("payment"), `panic: no`)
	// Output:
	//              order   INFO  order placed order_id=42 trace=4bf9
	//              payment panic: no
}

func TestView_text(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	stamp := at.Local().Format("15:04:05.000")
	ts := `"ts":"` + at.Format(time.RFC3339Nano) + `"`
	for _, c := range []struct{ name, line, want string }{
		{
			"keeps the order of fields and leaves out what is always the same",
			`{` + ts + `,"level":"warn","logger":"health","msg":"down","service":"order","version":"1","environment":"development","b":1,"a":"x y","trace_id":"t1","span_id":"s1","correlation_id":"t1"}`,
			stamp + ` order WARN  [health] down b=1 a="x y" trace=t1`,
		},
		{"shows a correlation id of its own", `{"level":"info","msg":"m","trace_id":"t1","correlation_id":"c 1"}`, `             order INFO  m correlation="c 1" trace=t1`},
		{"shows nested values as JSON", `{"level":"error","msg":"m","v":{"a":"x y"},"l":[1, 2],"n":null,"e":""}`, `             order ERROR m v={"a":"x y"} l=[1, 2] n=null e=""`},
		{"puts a stack on lines of its own", `{"level":"error","msg":"m","stacktrace":"main.f\n\tmain.go:1"}`, "             order ERROR m\n    main.f\n    \tmain.go:1"},
		{"shows a time that it cannot read", `{"ts":12,"level":"info","msg":"m"}`, `12           order INFO  m`},
		{"passes through what is no JSON", `plain text`, `             order plain text`},
		{"passes through what is only nearly JSON", `{"level":`, `             order {"level":`},
		{"passes through JSON that is no object", `[1]`, `             order [1]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			stream := logview.New(&out, logview.Text, false, []string{"order"}).Stream("order")
			fmt.Fprintln(stream, c.line)
			require.Equal(t, c.want+"\n", out.String())
		})
	}

	t.Run("colours levels and services when told to", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		fmt.Fprintln(logview.New(&out, logview.Text, true, nil).Stream("order"), `{"level":"error","msg":"m"}`)
		require.Contains(t, out.String(), "\x1b[31mERROR\x1b[0m")
		require.Regexp(t, "\x1b\\[\\d\\dmorder\x1b\\[0m", out.String())
	})
}

func TestView_json(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, line, want string }{
		{"passes a line with the service's name through", `{"msg":"m", "service":"order"}`, `{"msg":"m", "service":"order"}`},
		{"adds the name where it is missing", `{ "msg":"m"}`, `{"service":"shop","msg":"m"}`},
		{"adds the name to an empty object", `{}`, `{"service":"shop"}`},
		{"wraps what is no JSON", `a "quoted" text`, `{"service":"shop","msg":"a \"quoted\" text"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			fmt.Fprintln(logview.New(&out, logview.JSON, true, []string{"shop"}).Stream("shop"), c.line)
			require.Equal(t, c.want+"\n", out.String())
		})
	}
}

func TestStream(t *testing.T) {
	t.Parallel()

	t.Run("puts lines together that come in pieces", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		s := logview.New(&out, logview.Text, false, nil).Stream("a")
		for _, piece := range []string{"on", "e\r\nt", "wo\n\nthree"} {
			fmt.Fprint(s, piece)
		}
		require.Equal(t, "             a one\n             a two\n", out.String())
		s.Flush()
		s.Flush()
		require.Equal(t, 1, strings.Count(out.String(), "three"))
	})

	t.Run("shows a line without an end before it grows without bound", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		s := logview.New(&out, logview.Text, false, nil).Stream("a")
		fmt.Fprint(s, strings.Repeat("x", 1<<20))
		require.Greater(t, out.Len(), 1<<20)
	})

	t.Run("remembers the last lines", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		s := logview.New(&out, logview.Text, false, nil).Stream("a")
		for i := range 15 {
			fmt.Fprintln(s, "line", i)
		}
		require.Equal(t, 10, strings.Count(s.Last(), "\n"))
		require.True(t, strings.HasPrefix(s.Last(), "             a line 5\n"))
		require.True(t, strings.HasSuffix(s.Last(), "line 14\n"))
	})
}
