package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/slipwayhq/slipway/ops"
)

// errNoCommands says that a runbook's Mitigation is for people only.
var errNoCommands = errors.New("its Mitigation has no commands")

// mitigation returns the commands of a runbook: the blocks marked sh below Mitigation.
// What is marked console is for people, on a cluster.
func mitigation(alert string) (string, error) {
	text, err := fs.ReadFile(ops.FS, "runbooks/"+alert+".md")
	if err != nil {
		return "", fmt.Errorf("read runbook of %s: %w", alert, err)
	}
	_, section, found := strings.Cut(string(text), "\n## Mitigation\n")
	if !found {
		return "", fmt.Errorf("runbook of %s has no Mitigation", alert)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	for {
		var rest string
		if _, rest, found = strings.Cut(section, "\n```sh\n"); !found {
			break
		}
		block, after, closed := strings.Cut(rest, "\n```")
		if !closed {
			return "", fmt.Errorf("runbook of %s: a block of commands is not closed", alert)
		}
		script.WriteString(block + "\n")
		section = after
	}
	if script.Len() == 0 {
		return "", fmt.Errorf("runbook of %s: %w", alert, errNoCommands)
	}
	return script.String(), nil
}
