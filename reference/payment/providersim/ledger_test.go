package providersim_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/reference/payment/providersim"
)

func TestOpenLedger(t *testing.T) {
	t.Parallel()
	line := func(key string) string {
		return fmt.Sprintf(`{"effect":"authorized","key":%q,"amount":{"currency":"EUR","minor":700},"at":"2026-01-02T03:04:05Z"}`, key)
	}
	write := func(t *testing.T, text string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "new", "ledger.jsonl")
		require.NoError(t, os.Mkdir(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}

	t.Run("what was done stays done", func(t *testing.T) {
		t.Parallel()
		b := setupOn(t, write(t, line("a")+"\n"))
		status, ch, _ := b.call(http.MethodPost, "/v1/charges/a/capture", order(700, ""))
		b.require(providersim.StateCaptured, status, ch)
		text, err := os.ReadFile(b.file)
		require.NoError(t, err)
		require.Len(t, bytes.Split(bytes.TrimSpace(text), []byte("\n")), 2)
	})

	t.Run("a line that a crash has cut off never was", func(t *testing.T) {
		t.Parallel()
		for _, rest := range []string{line("b"), line("b")[:20], "{"} {
			file := write(t, line("a")+"\n"+rest)
			ledger, err := providersim.OpenLedger(file)
			require.NoError(t, err)
			require.Len(t, ledger.Entries(), 1)
			require.NoError(t, ledger.Append(providersim.Entry{Effect: providersim.Voided, Key: "a"}))
			require.NoError(t, ledger.Close())
			again, err := providersim.OpenLedger(file)
			require.NoError(t, err)
			require.Len(t, again.Entries(), 2)
			require.NoError(t, again.Close())
			require.Error(t, again.Append(providersim.Entry{}), "closed")
		}
	})

	t.Run("a file that is no ledger is left alone", func(t *testing.T) {
		t.Parallel()
		file := write(t, line("a")+"\nshopping list\n")
		_, err := providersim.OpenLedger(file)
		require.ErrorContains(t, err, "line 2")
	})

	t.Run("a ledger has one process", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		_, err := providersim.OpenLedger(b.file)
		require.ErrorContains(t, err, "in use")
	})
}

// TestLedger_survivesKill kills the provider while many clients are being answered, several times, and then
// looks for everything that one of them was told.
func TestLedger_survivesKill(t *testing.T) {
	t.Parallel()
	const rounds, clients = 5, 8
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	var mu sync.Mutex
	told := map[string]bool{}
	for round := range rounds {
		p := startProcess(t, file)
		b := &bundle{T: t, url: p.url, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
		var running sync.WaitGroup
		enough := make(chan struct{})
		for client := range clients {
			running.Go(func() {
				for n := 0; ; n++ {
					key := fmt.Sprintf("%d-%d-%d", round, client, n)
					if status, ch := b.authorize(key, "tok_ok"); status != http.StatusOK || ch.Key != key {
						return
					}
					mu.Lock()
					told[key] = true
					mu.Unlock()
					if n == 20 && client == 0 {
						close(enough)
					}
				}
			})
		}
		<-enough
		p.kill()
		running.Wait()
	}
	b := setupOn(t, file)
	_, _, text := b.call(http.MethodGet, "/ledger", "")
	seen := map[string]int{}
	for line := range strings.Lines(text) {
		var e providersim.Entry
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		seen[e.Key]++
	}
	require.Greater(t, len(told), rounds*20)
	for key := range told {
		require.Equal(t, 1, seen[key], key)
	}
	t.Logf("%d kills, %d answers, %d entries, 0 lost", rounds, len(told), len(seen))
}

// A child that is being started has a copy of the open file. Seen to fail with a file that is closed and not unlocked.
func TestLedger_Close(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "ledger.jsonl")
	ledger, err := providersim.OpenLedger(name)
	require.NoError(t, err)
	_, err = providersim.OpenLedger(name)
	require.ErrorContains(t, err, "in use")

	copies := 0
	files, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	for _, f := range files {
		if target, err := os.Readlink("/dev/fd/" + f.Name()); err != nil || target != name {
			continue
		}
		fd, err := strconv.Atoi(f.Name())
		require.NoError(t, err)
		held, err := syscall.Dup(fd)
		require.NoError(t, err)
		defer func() { _ = syscall.Close(held) }()
		copies++
	}
	if copies == 0 {
		t.Skip("this system does not tell the names of open files")
	}
	require.NoError(t, ledger.Close())
	again, err := providersim.OpenLedger(name)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

type process struct {
	url  string
	kill func()
}

func startProcess(t *testing.T, file string) process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ledgerOfProcess+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill := sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return process{url: strings.TrimSpace(url), kill: kill}
}
