package observe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedirect(t *testing.T) {
	t.Parallel()
	text, err := redirect([]byte(`
route: {receiver: pager, group_wait: 30s}
receivers:
  - name: pager
    webhook_configs:
      - {url: "https://pager.example/hook", send_resolved: true}
      - {url: "https://second.example"}
  - name: mail
    email_configs: [{to: ops@example.com}]
`), "http://127.0.0.1:1/")
	require.NoError(t, err)
	require.YAMLEq(t, `
route: {receiver: pager, group_wait: 30s}
receivers:
  - name: pager
    webhook_configs:
      - {url: "http://127.0.0.1:1/pager", send_resolved: true}
      - {url: "http://127.0.0.1:1/pager"}
  - name: mail
    email_configs: [{to: ops@example.com}]
`, string(text))
	_, err = redirect([]byte(`a: [`), "http://127.0.0.1:1")
	require.Error(t, err)
}

func TestLogFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	l, err := OpenLog(dir, "order")
	require.NoError(t, err)
	write := func(text string) {
		n, err := l.Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, len(text), n)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(text)
	}
	write("1\n")
	require.NoError(t, l.Close())
	write("lost, and no error\n")
	require.NoError(t, l.Close())

	l, err = OpenLog(dir, "order")
	require.NoError(t, err)
	write("2\n")
	require.Equal(t, "1\n2\n", read("order.json"), "a new run continues the file")
	l.size = maxLogFile + 1
	write("3\n")
	require.Equal(t, "1\n2\n", read("order.1.json"), "what is full is kept, under a name that is read too")
	require.Equal(t, "3\n", read("order.json"))
	require.Equal(t, int64(2), l.size)
	require.NoError(t, l.Close())
}
