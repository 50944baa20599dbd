package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// step is a block of commands of a guide, and what it must show.
type step struct{ commands, shows string }

// steps returns the blocks marked sh of a section, each with the block marked text that follows it.
func steps(t *testing.T, file, heading string) (all []step) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, "%s has no section %q", file, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "\n```")
	for i := 1; i < len(blocks); i += 2 { // every other one closes a block
		kind, body, _ := strings.Cut(blocks[i], "\n")
		switch kind {
		case "sh":
			all = append(all, step{commands: body})
		case "text":
			require.NotEmpty(t, all)
			all[len(all)-1].shows = body
		}
	}
	return all
}

// shown tells whether all lines that a guide promises are there. Space does not count, and … stands for
// anything.
func shown(out, promised string) bool {
	lines := strings.Split(out, "\n")
	for want := range strings.Lines(promised) {
		if !slices.ContainsFunc(lines, func(line string) bool { return like(strings.Join(strings.Fields(line), " "), strings.TrimSpace(want)) }) {
			return false
		}
	}
	return true
}

func like(line, pattern string) bool {
	parts := strings.Split(pattern, "…")
	for i, part := range parts {
		part = strings.Join(strings.Fields(part), " ")
		at := strings.Index(line, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		line = line[at+len(part):]
	}
	return strings.TrimSpace(line) == "" || parts[len(parts)-1] == ""
}

// TestGuide does what docs/guides/observability.md says, one step after the other, and sees what it promises.
func TestGuide(t *testing.T) {
	all := steps(t, "../../docs/guides/observability.md", "One failing order, from the alert to mended")
	require.Greater(t, len(all), 8)
	dev := startDev(t, "--time-scale", "60")
	for _, c := range []string{"prometheus", "alertmanager", "otelcol", "loki", "tempo"} {
		if dev.components[c] == "" {
			t.Skipf("no %s on this machine: build it with: make stack", c)
		}
	}
	if _, err := exec.LookPath("amtool"); err != nil && !isFile(filepath.Join(dev.dir, ".bin", "amtool")) {
		t.Skip("no amtool on this machine: install it, or build it with: make stack")
	}
	kept := filepath.Join(t.TempDir(), "variables") // a reader has one shell for all steps
	require.NoError(t, os.WriteFile(kept, nil, 0o600))
	run := func(s step) string {
		cmd := exec.Command("/bin/sh", "-c", `. "$KEPT"; `+s.commands+"\nexport -p >\"$KEPT\"\n")
		cmd.Dir = dev.dir
		cmd.Env = append(os.Environ(), "KEPT="+kept, "PATH="+binaries+":"+os.Getenv("PATH"),
			"ORDER="+dev.services["order"], "INVENTORY="+dev.services["inventory"],
			"ALERTMANAGER="+dev.components["alertmanager"], "LOKI="+dev.components["loki"], "TEMPO="+dev.components["tempo"])
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%v: %s", err, out)
		}
		return string(out)
	}
	for _, s := range all {
		if s.shows == "" {
			t.Logf("$ %s\n%s", s.commands, run(s))
			continue
		}
		var out string
		require.Eventually(t, func() bool { out = run(s); return shown(out, s.shows) }, 2*patience, time.Second,
			"%s\nmust show\n%s", s.commands, s.shows)
		t.Logf("$ %s\n%s", s.commands, out)
	}

	t.Run("what is not there is noticed", func(t *testing.T) {
		require.True(t, shown("a  b   c\nd", "a … c"))
		require.True(t, shown("x a b", "… b"))
		require.False(t, shown("x a b", "a …"))
		require.False(t, shown("a b c", "a b"))
		require.False(t, shown("a c", "a b …"))
	})
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
