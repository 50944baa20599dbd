// Package broker is what the library asks of a message broker, and no more: publish
// batches, consume in order per key, at least once. The drivers are nats
// (JetStream) and watermill (Kafka, RabbitMQ, Redis Streams, Google Pub/Sub);
// brokertest holds the tests that every driver passes.
//
// # Delivery
//
// At least once: a message whose publication was acknowledged is handed to every
// subscription until one of its handlers settles it. Duplicates are part of the
// contract; [Message.ID] is how a consumer recognises them, and the package inbox
// how it makes them harmless.
//
// # Order
//
// Messages of one key are stored in the order in which they were published, and
// handed over in the order in which they are stored: the next one not before the
// one before it is settled. Messages of different keys have no order. A message
// without a key has no order either.
//
// An acknowledgement of a broker is not durability: many sync their files some
// time later. What must not be lost stays in the database for longer than that.
package broker
