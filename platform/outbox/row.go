package outbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
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
	if err := json.Unmarshal([]byte(s.headers), &headers); err != nil {
		return broker.Message{}, fmt.Errorf("decode headers of event %s: %w: %w", s.eventID, broker.ErrRefused, err)
	}
	id, key := s.eventID.String(), s.aggregate().key()
	maps.Copy(headers, map[string]string{
		broker.HeaderID: id, broker.HeaderKey: key,
		broker.HeaderEventType: s.eventType, broker.HeaderEventVersion: strconv.Itoa(int(s.eventVersion)),
		broker.HeaderAggregateType: s.aggregateType, broker.HeaderAggregateID: s.aggregateID,
		broker.HeaderTime: s.createdAt.UTC().Format(time.RFC3339Nano),
	})
	if s.aggregateVersion != 0 {
		headers[broker.HeaderAggregateVersion] = strconv.FormatInt(s.aggregateVersion, 10)
	}
	return broker.Message{ID: id, Subject: s.eventType, Key: key, Headers: headers, Payload: s.payload}, nil
}

// binaryFormat asks for every column as decode expects it, also where a pool has
// another default.
var binaryFormat = pgx.QueryResultFormats{pgx.BinaryFormatCode}

// postgresEpoch is where PostgreSQL counts microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// decode reads a row of rowColumns in binary. It does so by hand because a backlog
// is bound by this: scanning by reflection costs several times as much.
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
func collect(rows pgx.Rows, into []stored, about func(*stored)) ([]stored, error) {
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
