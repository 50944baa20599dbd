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
// Of the processes that share a subscription one gets the messages; the others take
// over within about two seconds when it dies. What it had in hand comes first.
package nats
