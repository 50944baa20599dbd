// Package nats is the driver for NATS JetStream.
//
// An acknowledgement of JetStream says that the message is in the stream's file, not
// that the file is on the disk: by default the server syncs every two minutes. What
// must survive a loss of power stays in the outbox for longer than that, and can be
// replayed. A server that syncs always makes single messages slow; say so in
// PublisherConfig.SyncAlways, and they are published in atomic batches.
//
// Within the stream's window, two minutes by default, a message that is published
// again under the same DedupID is stored once.
//
// # Processes of a subscription
//
// Of the processes that share a subscription one gets the messages, the others stand
// by and ask eight times per SubscriberConfig.Takeover whether it still does. When it
// dies or its connection freezes, another begins with the first message that is not
// settled about Takeover later, two seconds by default and whatever the AckWait: at
// most 1.75 seconds until the server takes the silent one for dead, and 0.25 until
// that is noticed. A process whose Subscribe ends lets go when its last handler has
// returned; the next one takes over after 0.3 seconds.
//
// The process that gets the messages asks as well, and begins no handler when the
// last answer is older than three eighths of Takeover: one that freezes and wakes up
// does nothing out of order. A handler that was running when the process lost its
// messages runs on, beside its repetition elsewhere. Its late verdict settles its own
// message at most, and those that follow are not begun. Whoever asks so often needs
// answers of JetStream within half a second; slower ones make pauses, not disorder.
//
// A handler may take as long as it likes: three times per AckWait the server hears
// that it is at work.
//
// # What happens to a stream that is lost
//
// A publisher gets broker.ErrUnavailable, with a text that names the stream, and
// declares the stream again with the next attempt. This is logged as a warning: what
// the stream had is gone, and the outbox has it for a replay. A subscription waits
// until somebody has declared the stream, and then consumes from its beginning.
package nats
