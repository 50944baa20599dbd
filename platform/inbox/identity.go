package inbox

import (
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// notTimed is the day of ids that carry no time.
var notTimed = pgtype.Date{InfinityModifier: pgtype.NegativeInfinity, Valid: true}

// identify returns the day of an id and what is stored of it: a UUIDv7 as it is,
// anything else as 122 bits of its SHA-256 in a UUIDv8.
func identify(messageID string) (pgtype.Date, [16]byte) {
	if id, err := uuid.Parse(messageID); err == nil && id.Version() == 7 && id.Variant() == uuid.RFC4122 {
		return pgtype.Date{Time: dayOf(id), Valid: true}, id
	}
	sum := sha256.Sum256([]byte(messageID))
	id := [16]byte(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return notTimed, id
}

// dayOf returns midnight, UTC, of the day in which a UUIDv7 was drawn.
func dayOf(id uuid.UUID) time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC().Truncate(24 * time.Hour)
}
