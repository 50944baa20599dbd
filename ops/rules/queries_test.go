package rules_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/rules"
)

func TestRule_Queries(t *testing.T) {
	t.Parallel()

	t.Run("are the expression and what annotations ask", func(t *testing.T) {
		t.Parallel()
		r := rules.Rule{Expr: "up", Annotations: map[string]string{
			"description": `{{ with printf "max(a{b=\"%s\"})" $labels.b | query }}{{ . | first | value | printf "%.2f" }}{{ end }} and {{ range "c" | query }}{{ end }}`,
		}}
		require.Equal(t, []string{"up", `max(a{b="%s"})`, "c"}, r.Queries())
	})

	t.Run("are all found in what is shipped", func(t *testing.T) {
		t.Parallel()
		files, err := rules.Read(ops.FS, "prometheus/rules/*.yml")
		require.NoError(t, err)
		all := rules.Rules(files)
		found, written := 0, 0
		for _, r := range all {
			found += len(r.Queries()) - 1
			for _, text := range r.Annotations {
				written += strings.Count(text, " query ")
			}
		}
		require.Positive(t, found)
		require.Equal(t, written, found)
	})
}

func TestRunbookQueries(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(ops.FS, "runbooks/*.md")
	require.NoError(t, err)
	found := 0
	for _, name := range names {
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		queries := rules.RunbookQueries(string(text))
		require.Len(t, queries, strings.Count(string(text), "/api/v1/query"), name)
		found += len(queries)
	}
	require.Greater(t, found, 10)
}
