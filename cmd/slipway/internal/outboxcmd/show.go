package outboxcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/outbox"
)

func (c *commands) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show EVENT-ID",
		Short: "Show an event whole, with what has become of it at each sink",
		Example: `  slipway outbox show 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d
  slipway outbox show 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d -o json | jq -r .payload | base64 -d`,
		Args: command.OneArg("EVENT-ID"),
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := eventID(args[0])
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			event, err := s.Show(ctx, id)
			if err != nil {
				return err
			}
			return c.env.Result(*format, whole(event), func() error { return c.showEvent(event) })
		})
	}
	return cmd
}

func eventID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, command.Usagef("event id %q: want a UUID as slipway outbox list shows it", text)
	}
	return id, nil
}

// wholeEvent is an event in JSON: the headers as an object, the payload in base64
// and, if it is a text, as that too.
type wholeEvent struct {
	outbox.StoredEvent
	Headers json.RawMessage `json:"headers"`
	Text    *string         `json:"payload_text,omitempty"`
}

func whole(e outbox.StoredEvent) wholeEvent {
	w := wholeEvent{StoredEvent: e, Headers: json.RawMessage(e.Headers), Text: command.Text(e.Payload)}
	if !json.Valid(w.Headers) {
		w.Headers, _ = json.Marshal(e.Headers)
	}
	return w
}

func (c *commands) showEvent(e outbox.StoredEvent) error {
	version := ""
	if e.AggregateVersion != 0 {
		version = fmt.Sprintf(", version %d", e.AggregateVersion)
	}
	rows := [][]string{
		{"event", e.ID.String()},
		{"type", fmt.Sprintf("%s, version %d", command.Cell(e.Type), e.Version)},
		{"aggregate", command.Cell(e.AggregateType+"/"+e.AggregateID) + version},
		{"stored", fmt.Sprintf("%s (%s ago), position %d", command.Time(&e.CreatedAt), command.Age(time.Since(e.CreatedAt)), e.Position)},
	}
	for _, sink := range slices.Sorted(maps.Keys(e.Sinks)) {
		rows = append(rows, []string{"sink " + command.Cell(sink), e.Sinks[sink]})
	}
	headers := map[string]string{}
	if err := json.Unmarshal([]byte(e.Headers), &headers); err != nil {
		rows = append(rows, []string{"headers", command.Cell(e.Headers)})
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		rows = append(rows, []string{"header " + command.Cell(name), command.Cell(headers[name])})
	}
	if err := console.WriteTable(c.env.Console, []string{"FIELD", "VALUE"}, rows); err != nil {
		return err
	}
	c.env.Console.Printf("\npayload, %s:\n%s", command.Count(int64(len(e.Payload)), "byte"), command.Payload(e.Payload))
	return nil
}
