package nats

import (
	"time"

	"go.uber.org/zap"
)

// silence is for how long an error is not logged again that stays the same.
const silence = 5 * time.Minute

// complaints keep an error that comes with every attempt from filling the log: a consumer may wait for
// its stream for as long as nobody has published.
type complaints struct {
	log  *zap.Logger
	last string
	at   time.Time
}

// warn logs the error if it is another one than before, or after a while.
func (c *complaints) warn(message string, err error) {
	if err.Error() == c.last && time.Since(c.at) < silence {
		return
	}
	c.last, c.at = err.Error(), time.Now()
	c.log.Warn(message, zap.Error(err))
}

// over says that what was complained about is over.
func (c *complaints) over() {
	if c.last != "" {
		c.last = ""
		c.log.Info("messages can come again")
	}
}
