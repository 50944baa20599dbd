package command

import (
	"cmp"
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
)

// Reason is the flag --reason: what the journal says why.
type Reason struct {
	text     string
	required bool
}

// ByHand is the reason of who gives none.
const ByHand = "by hand"

// ReasonFlag adds the flag --reason.
func ReasonFlag(cmd *cobra.Command, required bool) *Reason {
	r := &Reason{required: required}
	usage, otherwise := "why, for the journal", ByHand
	if required {
		usage, otherwise = "why, for the journal (required)", ""
	}
	cmd.Flags().StringVar(&r.text, "reason", otherwise, usage)
	return r
}

// Text returns the reason, or a UsageError when there must be one.
func (r *Reason) Text() (string, error) {
	text := strings.TrimSpace(r.text)
	if text == "" && r.required {
		return "", Usagef("--reason is missing: the journal keeps why it was done")
	}
	return cmp.Or(text, ByHand), nil
}

// Who returns who operates, for the journal: SLIPWAY_OPERATOR, or the user and the
// machine.
func Who(environ []string) string {
	if who := strings.TrimSpace(devenv.Lookup(environ, "SLIPWAY_OPERATOR")); who != "" {
		return who
	}
	name := "uid-" + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, _ := os.Hostname()
	return name + "@" + cmp.Or(host, "unknown")
}

// Consent is the flag --yes of a command that cannot be undone.
type Consent struct {
	env Env
	yes bool
}

// ConsentFlag adds the flag --yes.
func ConsentFlag(cmd *cobra.Command, env Env) *Consent {
	c := &Consent{env: env}
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask")
	return c
}

// Possible returns a UsageError when neither --yes is given nor anybody can be asked.
// It does not ask yet.
func (c *Consent) Possible() error {
	if c.yes || c.env.Console.Interactive() {
		return nil
	}
	return errNobody
}

var errNobody = Usagef("this cannot be undone: add --yes to confirm, there is no terminal to ask on")

// Ask asks the question on the terminal unless --yes is given. Anything but yes is
// an error.
func (c *Consent) Ask(question string) error {
	if c.yes {
		return nil
	}
	ok, err := c.env.Console.Confirm(question)
	switch {
	case errors.Is(err, console.ErrNotAsked):
		return errNobody
	case err != nil:
		return err
	case !ok:
		return errors.New("nothing was changed")
	}
	return nil
}
