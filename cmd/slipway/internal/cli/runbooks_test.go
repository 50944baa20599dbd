package cli

import (
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/ops"
)

var (
	// block is one of commands in a runbook; the other kind, console, has placeholders in capitals.
	block = regexp.MustCompile("(?s)\n```(?:sh|console)\n(.*?)\n```")
	// inText is a command that a sentence names.
	inText = regexp.MustCompile("`(slipway [^`]+)`")
	// words of a command line: in quotation marks, or up to the next space.
	words = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"']+`)
	// variable is one of the shell, whose value may be a number.
	variable = regexp.MustCompile(`^\$\w+$`)
)

// runbookCommands finds every call of slipway.
func runbookCommands(text string) []string {
	var all []string
	for _, b := range block.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(b[1]) {
			if at := strings.Index(line, "slipway "); at >= 0 && (at == 0 || strings.ContainsAny(line[at-1:at], " (;|")) {
				all = append(all, strings.TrimSpace(line[at:]))
			}
		}
	}
	for _, m := range inText.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// understood says what is wrong with a command line, without running it.
func understood(line string) error {
	var args []string
	for _, w := range words.FindAllString(line, -1)[1:] {
		args = append(args, variable.ReplaceAllString(strings.Trim(w, `"'`), "1"))
	}
	a := &app{program: "slipway", console: console.New(nil, io.Discard, io.Discard, nil)}
	cmd, rest, err := a.root().Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.HasSubCommands() {
		return fmt.Errorf("%s does nothing by itself", cmd.CommandPath())
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// What a runbook tells the operator to type exists.
func TestRunbooks_commandsExist(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(ops.FS, "runbooks/*.md")
	require.NoError(t, err)
	found := 0
	for _, name := range names {
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		for _, line := range runbookCommands(string(text)) {
			found++
			require.NoError(t, understood(line), "%s: %s", name, line)
		}
	}
	require.Greater(t, found, 15)

	t.Run("and what does not is noticed", func(t *testing.T) {
		t.Parallel()
		for _, line := range []string{
			"slipway outbox unblock", "slipway outbox resume --force", "slipway sagas list", "slipway saga retry --all", "slipway saga list extra",
		} {
			require.Error(t, understood(line), line)
		}
		require.NoError(t, understood(`slipway inbox dead discard "$id" --reason "not a message of ours" --yes`))
	})
}
