package outbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/broker"
)

// stored is an event as the table has it.
type stored struct {
	xid              uint64
	id               int64
	createdAt        time.Time
	aggregateVersion int64
	eventID          uuid.UUID
	eventVersion     int32
	aggregateType    string
	aggregateID      string
	eventType        string
	payload          []byte
	headers          string
	durable          bool
}

// rowColumns are the columns of stored, in its order.
const rowColumns = "xid, id, created_at, aggregate_version, event_id, event_version, aggregate_type, aggregate_id, event_type, payload, headers, durable"

// aggregate identifies what the events are about.
type aggregate struct{ kind, id string }

func (s *stored) aggregate() aggregate { return aggregate{s.aggregateType, s.aggregateID} }

func (a aggregate) key() string { return a.kind + "/" + a.id }

// message is the event as the broker gets it.
func (s *stored) message() (broker.Message, error) {
	headers := make(map[string]string, 12)
	if err := decodeHeaders(s.headers, headers); err != nil {
		return broker.Message{}, fmt.Errorf("decode headers of event %s: %w: %w", s.eventID, broker.ErrRefused, err)
	}
	id, key := s.eventID.String(), s.aggregate().key()
	headers[broker.HeaderID], headers[broker.HeaderKey] = id, key
	headers[broker.HeaderEventType], headers[broker.HeaderEventVersion] = s.eventType, strconv.Itoa(int(s.eventVersion))
	headers[broker.HeaderAggregateType], headers[broker.HeaderAggregateID] = s.aggregateType, s.aggregateID
	headers[broker.HeaderTime] = s.createdAt.UTC().Format(time.RFC3339Nano)
	if s.aggregateVersion != 0 {
		headers[broker.HeaderAggregateVersion] = strconv.FormatInt(s.aggregateVersion, 10)
	}
	return broker.Message{ID: id, Subject: s.eventType, Key: key, Headers: headers, Payload: s.payload}, nil
}

// decodeHeaders reads a JSON object of strings. What Add writes has mostly nothing to
// unquote: then the strings are parts of the text, which takes a fraction of the
// time that a backlog spends on decoding.
func decodeHeaders(text string, into map[string]string) error {
	if rest, ok := strings.CutPrefix(text, "{"); ok && !strings.Contains(text, `\`) {
		for {
			key, value, after, ok := cutPair(rest)
			if !ok {
				break
			}
			into[key] = value
			if after == "}" {
				return nil
			}
			rest, ok = strings.CutPrefix(after, ",")
			if !ok {
				break
			}
		}
	}
	clear(into)
	return json.Unmarshal([]byte(text), &into)
}

// cutPair takes "key":"value" off the text.
func cutPair(text string) (key, value, rest string, ok bool) {
	if rest, ok = strings.CutPrefix(text, `"`); !ok {
		return "", "", "", false
	}
	if key, rest, ok = strings.Cut(rest, `":"`); !ok {
		return "", "", "", false
	}
	value, rest, ok = strings.Cut(rest, `"`)
	return key, value, rest, ok && !strings.Contains(key, `"`)
}

// binaryFormat asks for every column as decode expects it, also where a pool has
// another default.
var binaryFormat = pgx.QueryResultFormats{pgx.BinaryFormatCode}

// postgresEpoch is where PostgreSQL counts microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// decode reads a row of rowColumns in binary, by hand: a backlog is bound by this.
func (s *stored) decode(values [][]byte) error {
	if len(values) != 12 || len(values[1]) != 8 || len(values[2]) != 8 || len(values[3]) != 8 || len(values[5]) != 4 || len(values[11]) != 1 {
		return fmt.Errorf("decode outbox row: %d columns of unexpected form", len(values))
	}
	if values[0] != nil {
		s.xid = binary.BigEndian.Uint64(values[0])
	}
	s.id = int64(binary.BigEndian.Uint64(values[1]))
	s.createdAt = postgresEpoch.Add(time.Duration(binary.BigEndian.Uint64(values[2])) * time.Microsecond)
	s.aggregateVersion = int64(binary.BigEndian.Uint64(values[3]))
	copy(s.eventID[:], values[4])
	s.eventVersion = int32(binary.BigEndian.Uint32(values[5]))
	// One string for all texts, one allocation.
	texts := make([]byte, 0, len(values[6])+len(values[7])+len(values[8])+len(values[10]))
	for _, i := range [...]int{6, 7, 8, 10} {
		texts = append(texts, values[i]...)
	}
	all := string(texts)
	cut := func(n int) (part string) {
		part, all = all[:n], all[n:]
		return part
	}
	s.aggregateType, s.aggregateID, s.eventType, s.headers = cut(len(values[6])), cut(len(values[7])), cut(len(values[8])), cut(len(values[10]))
	s.payload = append([]byte{}, values[9]...)
	s.durable = values[11][0] != 0
	return nil
}

// collect reads rows of rowColumns. The one without an xid is about the window, not
// an event: it is given to about.
func collect(rows pgx.Rows, about func(*stored)) (into []stored, err error) {
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues()
		var s stored
		if err := s.decode(values); err != nil {
			return into, err
		}
		if values[0] == nil {
			about(&s)
			continue
		}
		into = append(into, s)
	}
	return into, rows.Err()
}
