package sagacmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) setData() *cobra.Command {
	var file string
	var data []byte
	cmd := &cobra.Command{
		Use:   "set-data ID --file FILE --reason TEXT",
		Short: "Replace the state of a saga, a JSON object, and go on with it as retry does",
		Long: `Replace the state of a saga and go on with it as retry does. Calls keep their idempotency keys: what a step
has had done before stays as it was asked for first. The journal keeps what was changed.`,
		Example: `  slipway saga show 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d -o json | jq .data > state.json
  slipway saga set-data 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --file state.json --reason "the address has a typing error"
  jq '.address.city = "Ulm"' state.json | slipway saga set-data 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --file - --reason typo --yes`,
	}
	cmd.Flags().StringVar(&file, "file", "", "file with the whole state, - for the input (required)")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if file == "" {
			return command.Usagef("--file is missing: the whole state, as slipway saga show -o json has it in .data")
		}
		if data, err = contents(cmd, file); err == nil && !json.Valid(data) {
			err = command.Usagef("--file %s is no JSON", file)
		}
		return err
	}
	return c.decides(cmd, decision{
		reason: true, one: true,
		question: func(sagas []sagapg.Detail) string {
			return fmt.Sprintf("Replace the state of %s and go on with it?", title(sagas[0].Saga))
		},
		act: func(ctx context.Context, s session, id uuid.UUID, by sagapg.Act) (sagapg.Change, error) {
			return s.SetData(ctx, id, data, by)
		},
	})
}

// contents reads a file, or the input for -.
func contents(cmd *cobra.Command, file string) (data []byte, err error) {
	if file == "-" {
		data, err = io.ReadAll(cmd.InOrStdin())
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, command.Usagef("--file: %w", err)
	}
	return data, nil
}
