// Package watermill is the driver for the brokers that Watermill
// (github.com/ThreeDotsLabs/watermill) has a Publisher and a Subscriber for.
//
// A subject goes to a topic, by default its first token: "order.placed" and
// "order.cancelled" both to "order", so that the messages of a key keep their order
// whatever their subject. The subject and the key travel in the metadata; a
// subscriber leaves out what its subscription did not ask for.
//
// What a broker keeps of the contract depends on how it is set up:
//
//	Kafka           partition by PartitionKey; the consumer group gives each
//	                partition to one process. Order holds, also over a failover.
//	Google Pub/Sub  the ordering key is PartitionKey, with ordering enabled.
//	RabbitMQ        one queue a group, a single active consumer, prefetch 1.
//	Redis Streams   one process a group. What it had in hand when it died comes
//	                after MaxIdleTime, behind later messages of its key.
//
// Where a broker does not keep order over a failover, the mode ByVersion of the
// package inbox does: it applies events in the order of their versions. Redis
// Streams is what the tests of this package run over; the others are here by what
// their drivers document.
//
// A subscription handles one message at a time for each topic that it is given. A
// message that is to come again holds up its topic, or its partition, for the delay.
// No broker behind Watermill deduplicates: DedupID is not sent.
package watermill
