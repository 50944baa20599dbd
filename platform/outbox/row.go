package outbox

import (
	"encoding/binary"
	"encoding/hex"
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
	texts            texts
}

// texts are what a message says of an event in words.
type texts struct{ id, key, version, aggregateVersion, createdAt string }

// rowColumns are the columns of stored, in its order.
const rowColumns = "xid, id, created_at, aggregate_version, event_id, event_version, aggregate_type, aggregate_id, event_type, payload, headers, durable"

// aggregate identifies what the events are about.
type aggregate struct{ kind, id string }

func (s *stored) aggregate() aggregate { return aggregate{s.aggregateType, s.aggregateID} }

// message is the event as the broker gets it. There are not more headers than a
// small map holds: a backlog is bound by making them.
func (s *stored) message() (broker.Message, error) {
	headers := make(map[string]string, 8)
	if err := decodeHeaders(s.headers, headers); err != nil {
		return broker.Message{}, fmt.Errorf("decode headers of event %s: %w: %w", s.eventID, broker.ErrRefused, err)
	}
	headers[broker.HeaderEventType], headers[broker.HeaderEventVersion] = s.eventType, s.texts.version
	headers[broker.HeaderAggregateType], headers[broker.HeaderAggregateID] = s.aggregateType, s.aggregateID
	headers[broker.HeaderTime] = s.texts.createdAt
	if s.aggregateVersion != 0 {
		headers[broker.HeaderAggregateVersion] = s.texts.aggregateVersion
	}
	return broker.Message{ID: s.texts.id, Subject: s.eventType, Key: s.texts.key, Headers: headers, Payload: s.payload}, nil
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

// rowReader decodes rows of rowColumns by hand: a backlog is bound by this. The texts
// and payloads of all rows share two allocations.
type rowReader struct {
	events  []stored
	cuts    [][cuts]int // where each event's parts end
	text    []byte
	payload []byte
}

// cuts is how many parts an event has in text: aggregate type, slash, aggregate id,
// event type, headers, id, event version, aggregate version, time.
const cuts = 9

func (r *rowReader) add(values [][]byte) error {
	if len(values) != 12 || len(values[1]) != 8 || len(values[2]) != 8 || len(values[3]) != 8 || len(values[5]) != 4 || len(values[11]) != 1 {
		return fmt.Errorf("decode outbox row: %d columns of unexpected form", len(values))
	}
	r.events, r.cuts = append(r.events, stored{}), append(r.cuts, [cuts]int{})
	s, ends := &r.events[len(r.events)-1], &r.cuts[len(r.cuts)-1]
	if values[0] != nil {
		s.xid = binary.BigEndian.Uint64(values[0])
	}
	s.id = int64(binary.BigEndian.Uint64(values[1]))
	s.createdAt = postgresEpoch.Add(time.Duration(binary.BigEndian.Uint64(values[2])) * time.Microsecond)
	s.aggregateVersion = int64(binary.BigEndian.Uint64(values[3]))
	copy(s.eventID[:], values[4])
	s.eventVersion = int32(binary.BigEndian.Uint32(values[5]))
	s.durable = values[11][0] != 0
	part := 0
	end := func(text []byte) {
		r.text = text
		ends[part] = len(text)
		part++
	}
	end(append(r.text, values[6]...))
	end(append(r.text, '/'))
	end(append(r.text, values[7]...))
	end(append(r.text, values[8]...))
	end(append(r.text, values[10]...))
	end(appendUUID(r.text, s.eventID))
	end(strconv.AppendInt(r.text, int64(s.eventVersion), 10))
	end(strconv.AppendInt(r.text, s.aggregateVersion, 10))
	end(s.createdAt.AppendFormat(r.text, time.RFC3339Nano))
	r.payload = append(r.payload, values[9]...)
	s.payload = r.payload[len(r.payload)-len(values[9]):]
	return nil
}

func appendUUID(to []byte, id uuid.UUID) []byte {
	to = hex.AppendEncode(to, id[:4])
	for _, part := range [...][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		to = hex.AppendEncode(append(to, '-'), part)
	}
	return to
}

// like makes room for as much as another one has read.
func (r *rowReader) like(old *rowReader) {
	r.events, r.cuts = make([]stored, 0, len(old.events)), make([][cuts]int, 0, len(old.cuts))
	r.text, r.payload = make([]byte, 0, len(old.text)+len(old.text)/8), make([]byte, 0, len(old.payload)+len(old.payload)/8)
}

// done returns the events.
func (r *rowReader) done() []stored {
	text, payload, from := string(r.text), r.payload, 0
	for i := range r.events {
		s, ends := &r.events[i], &r.cuts[i]
		cut := func(first, last int) string {
			start := from
			if first > 0 {
				start = ends[first-1]
			}
			return text[start:ends[last]]
		}
		s.aggregateType, s.aggregateID, s.texts.key = cut(0, 0), cut(2, 2), cut(0, 2)
		s.eventType, s.headers, s.texts.id = cut(3, 3), cut(4, 4), cut(5, 5)
		s.texts.version, s.texts.aggregateVersion, s.texts.createdAt = cut(6, 6), cut(7, 7), cut(8, 8)
		from = ends[cuts-1]
		n := len(s.payload)
		s.payload, payload = payload[:n:n], payload[n:]
	}
	return r.events
}

// collect reads rows of rowColumns. The one without an xid is about the window, not
// an event: it is given to about.
func collect(rows pgx.Rows, about func(*stored)) ([]stored, error) {
	defer rows.Close()
	var events, window rowReader
	for rows.Next() {
		values, into := rows.RawValues(), &events
		if values[0] == nil {
			into = &window
		}
		if err := into.add(values); err != nil {
			return nil, err
		}
	}
	for _, s := range window.done() {
		about(&s)
	}
	return events.done(), rows.Err()
}
