// Package redisgroup opens consumer groups of Redis Streams so that the order of a key
// holds over the restarts of their process.
//
// A group of Redis hands each message to whoever asks first, whatever its key, and what
// a process had in hand when it ended stays its own until another claims it. Opened
// as Watermill does by default, the next process reads on behind that, and gets it
// after a minute, behind later messages of its key. A group of this package claims
// all of it, in order, before it reads anything new. An error in reading ends the
// session, so that an answer that was lost on its way is claimed by the next one.
//
// Only one process at a time may consume a group: strategy Recreate, one replica. Two
// share the messages without regard to keys, and take from each other what is in hand;
// nothing is lost, but messages of one key are handled out of order and twice. Where
// that cannot be ruled out, the mode ByVersion of the package inbox brings events into
// their order.
package redisgroup

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	driver "github.com/slipwayhq/slipway/platform/broker/watermill"
)

const (
	// idle is from when on a message in hand can be claimed, the least that Redis
	// tells apart.
	idle = time.Millisecond
	// forgotten is from when on a session claims its own: the answer to a claim was
	// lost. It comes out of order then.
	forgotten = 10 * time.Minute
	// pause lets the messages that an earlier session was handed last become idle.
	pause = 20 * time.Millisecond
)

// Open returns what opens groups on the server of options, each over a client of its
// own. A nil logger is none.
func Open(options redis.Options, log *zap.Logger) driver.OpenFunc {
	// A repeated read would not see that the answer to the first one was lost.
	options.MaxRetries = -1
	return func(group string) (message.Subscriber, error) {
		<-time.After(pause)
		own := options
		client, consumer := redis.NewClient(&own), watermill.NewUUID()
		s, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
			Client: client, ConsumerGroup: group, Consumer: consumer,
			MaxIdleTime: idle, ClaimInterval: time.Second, ClaimBatchSize: 1000,
			ShouldClaimPendingMessage: func(m redis.XPendingExt) bool { return m.Consumer != consumer || m.Idle > forgotten },
			ShouldStopOnReadErrors:    func(error) bool { return true },
			// A read that blocks for ever would outlive a connection that died silently.
			DisableIndefiniteInitialBlock: true,
		}, quiet{driver.NewLogger(log)})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open redis consumer group: %w", err), client.Close())
		}
		return s, nil
	}
}

// quiet leaves out the errors of a client that was closed: that is how its readers
// are ended.
type quiet struct{ watermill.LoggerAdapter }

// Error implements watermill.LoggerAdapter.
func (q quiet) Error(msg string, err error, fields watermill.LogFields) {
	if !errors.Is(err, redis.ErrClosed) && !errors.Is(err, net.ErrClosed) {
		q.LoggerAdapter.Error(msg, err, fields)
	}
}

// With implements watermill.LoggerAdapter.
func (q quiet) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return quiet{q.LoggerAdapter.With(fields)}
}
