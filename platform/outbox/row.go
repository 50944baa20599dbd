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
	durable          bool
	payload          []byte
	words            words
}

// words are what an event, and the message about it, say in words: parts of one string,
// because a backlog is bound by reading, and strings of their own would double what the
// garbage collector has to do.
type words struct {
	text string
	ends [parts]uint32 // where each part ends
}

// The parts of words.
const (
	partAggregateType = iota
	partSlash         // makes a key of what is beside it
	partAggregateID
	partEventType
	partHeaders
	partEventID
	partEventVersion
	partAggregateVersion
	partTime
	parts
)

// cut returns the text from the beginning of one part to the end of another.
func (w *words) cut(first, last int) string {
	if first == 0 {
		return w.text[:w.ends[last]]
	}
	return w.text[w.ends[first-1]:w.ends[last]]
}

func (w *words) part(i int) string { return w.cut(i, i) }

func (s *stored) aggregateType() string { return s.words.part(partAggregateType) }
func (s *stored) aggregateID() string   { return s.words.part(partAggregateID) }
func (s *stored) eventType() string     { return s.words.part(partEventType) }
func (s *stored) headers() string       { return s.words.part(partHeaders) }

// rowColumns are the columns of stored, in its order.
const rowColumns = "xid, id, created_at, aggregate_version, event_id, event_version, aggregate_type, aggregate_id, event_type, payload, headers, durable"

// aggregate identifies what the events are about.
type aggregate struct{ kind, id string }

func (s *stored) aggregate() aggregate { return aggregate{s.aggregateType(), s.aggregateID()} }

// message is the event as the broker gets it. There are not more headers than a
// small map holds: a backlog is bound by making them.
func (s *stored) message() (broker.Message, error) {
	headers := make(map[string]string, 8)
	if err := decodeHeaders(s.headers(), headers); err != nil {
		return broker.Message{}, fmt.Errorf("decode headers of event %s: %w: %w", s.eventID, broker.ErrRefused, err)
	}
	w := &s.words
	kind := s.eventType()
	headers[broker.HeaderEventType], headers[broker.HeaderEventVersion] = kind, w.part(partEventVersion)
	headers[broker.HeaderAggregateType], headers[broker.HeaderAggregateID] = s.aggregateType(), s.aggregateID()
	headers[broker.HeaderTime] = w.part(partTime)
	if s.aggregateVersion != 0 {
		headers[broker.HeaderAggregateVersion] = w.part(partAggregateVersion)
	}
	return broker.Message{ID: w.part(partEventID), Subject: kind, Key: w.cut(partAggregateType, partAggregateID), Headers: headers, Payload: s.payload}, nil
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

// rowFormats are the formats that decode expects of rowColumns, text for numbers and words: to
// send these as text costs the database less than half of what it costs in binary.
var rowFormats = pgx.QueryResultFormats{
	pgx.BinaryFormatCode, pgx.TextFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode,
	pgx.TextFormatCode, pgx.TextFormatCode, pgx.TextFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode, pgx.TextFormatCode,
}

// postgresEpoch is where PostgreSQL counts microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// rowReader decodes rows of rowColumns by hand: a backlog is bound by this. The words
// and payloads of all rows share two allocations, as large as those before needed them.
type rowReader struct {
	events  []stored
	text    []byte
	payload []byte
	count   int // of the events before
	size    int // of their payloads
}

func (r *rowReader) add(values [][]byte) error {
	if len(values) != len(rowFormats) || len(values[2]) != 8 {
		return fmt.Errorf("decode outbox row: %d columns of unexpected form", len(values))
	}
	if r.events == nil {
		r.events, r.payload = make([]stored, 0, r.count+r.count/8), make([]byte, 0, r.size+r.size/8)
	}
	r.events = append(r.events, stored{})
	s := &r.events[len(r.events)-1]
	if values[0] != nil {
		s.xid = binary.BigEndian.Uint64(values[0])
	}
	version, err := int64(0), error(nil)
	for i, into := range [...]*int64{1: &s.id, 3: &s.aggregateVersion, 5: &version} {
		if into != nil && err == nil {
			*into, err = strconv.ParseInt(string(values[i]), 10, 64)
		}
	}
	if err != nil {
		return fmt.Errorf("decode outbox row: %w", err)
	}
	s.eventVersion = int32(version)
	s.createdAt = postgresEpoch.Add(time.Duration(binary.BigEndian.Uint64(values[2])) * time.Microsecond)
	copy(s.eventID[:], values[4])
	s.durable = string(values[11]) == "t"
	r.text = s.appendWords(r.text, values[6], values[7], values[8], values[10])
	r.payload = append(r.payload, values[9]...)
	s.payload = r.payload[len(r.payload)-len(values[9]):]
	return nil
}

// appendWords adds the event's words to a text that is not yet the event's own.
func (s *stored) appendWords(text, aggregateType, aggregateID, eventType, headers []byte) []byte {
	from, ends := len(text), &s.words.ends
	text = append(text, aggregateType...)
	ends[partAggregateType] = uint32(len(text) - from)
	text = append(text, '/')
	ends[partSlash] = uint32(len(text) - from)
	text = append(text, aggregateID...)
	ends[partAggregateID] = uint32(len(text) - from)
	text = append(text, eventType...)
	ends[partEventType] = uint32(len(text) - from)
	text = append(text, headers...)
	ends[partHeaders] = uint32(len(text) - from)
	text = appendUUID(text, s.eventID)
	ends[partEventID] = uint32(len(text) - from)
	text = strconv.AppendInt(text, int64(s.eventVersion), 10)
	ends[partEventVersion] = uint32(len(text) - from)
	text = strconv.AppendInt(text, s.aggregateVersion, 10)
	ends[partAggregateVersion] = uint32(len(text) - from)
	text = s.createdAt.AppendFormat(text, time.RFC3339Nano)
	ends[partTime] = uint32(len(text) - from)
	return text
}

func appendUUID(to []byte, id uuid.UUID) []byte {
	to = hex.AppendEncode(to, id[:4])
	for _, part := range [...][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		to = hex.AppendEncode(append(to, '-'), part)
	}
	return to
}

// done returns the events, after which others may be read.
func (r *rowReader) done() []stored {
	events, text, payload := r.events, string(r.text), r.payload
	for i := range events {
		s := &events[i]
		n := s.words.ends[parts-1]
		s.words.text, text = text[:n], text[n:]
		size := len(s.payload)
		s.payload, payload = payload[:size:size], payload[size:]
	}
	*r = rowReader{text: r.text[:0], count: len(events), size: min(len(r.payload), aheadBytes)}
	if cap(r.text) > aheadBytes { // the relay may be idle from now on
		r.text = nil
	}
	return events
}

// collect reads rows of rowColumns.
func collect(rows pgx.Rows) ([]stored, error) {
	var r rowReader
	return r.collect(rows, nil)
}

// collect reads rows of rowColumns. The one without an xid is about the window, not
// an event: it is given to about.
func (r *rowReader) collect(rows pgx.Rows, about func(*stored)) ([]stored, error) {
	defer rows.Close()
	var window rowReader
	for rows.Next() {
		values, into := rows.RawValues(), r
		if values[0] == nil {
			into = &window
		}
		if err := into.add(values); err != nil {
			r.done()
			return nil, err
		}
	}
	for _, s := range window.done() {
		about(&s)
	}
	return r.done(), rows.Err()
}
