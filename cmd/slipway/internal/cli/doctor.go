package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/doctor"
)

func (a *app) doctor() *cobra.Command {
	d := doctor.Doctor{Environ: a.environ, Program: a.program}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that this machine has what slipway dev needs; exit code 1 when it cannot run",
		Example: `  slipway doctor
  slipway doctor --output json`,
		Args: command.NoArgs,
	}
	cmd.Flags().IntVar(&d.PortOffset, "port-offset", 0, "check the ports that slipway dev would use with this")
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		results := d.Examine(cmd.Context(), ".")
		if err := a.showExamination(*format, results); err != nil {
			return err
		}
		if doctor.Failed(results) {
			return errReported
		}
		return nil
	}
	return cmd
}

func (a *app) showExamination(format console.Format, results []doctor.Result) error {
	if format == console.JSON {
		return console.WriteJSON(a.console, results)
	}
	var rows [][]string
	for _, r := range results {
		detail, more, _ := strings.Cut(r.Detail, "\n")
		rows = append(rows, []string{r.Name, string(r.Status), detail})
		for line := range strings.Lines(more) {
			rows = append(rows, []string{"", "", strings.TrimRight(line, "\n")})
		}
		if r.Mend != "" {
			rows = append(rows, []string{"", "", "-> " + r.Mend})
		}
	}
	if err := console.WriteTable(a.console, []string{"CHECK", "STATUS", "DETAIL"}, rows); err != nil {
		return err
	}
	if doctor.Failed(results) {
		a.console.Notef("\nslipway dev cannot run here yet: mend what says fail")
	}
	return nil
}
