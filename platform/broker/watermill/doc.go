// Package watermill is the driver for the brokers that Watermill
// (github.com/ThreeDotsLabs/watermill) has a Publisher and a Subscriber for.
//
// A subject goes to a topic, by default its first token: "order.placed" and
// "order.cancelled" both to "order", so that the messages of a key keep their order
// whatever their subject. With a topic for each subject there is no order between
// subjects, and no pattern: Watermill has none, and Subscribe refuses one that the
// TopicFunc knows no topic for. The subject and the key travel in the metadata; a
// subscriber leaves out what its subscription did not ask for.
//
// A message that was handed out holds up its key for the delay of a Nack, and with it
// whatever its broker hands out behind it: its partition, its queue, its stream. How
// many are in hand at once is up to the broker; of those, keys are handled side by
// side, up to the subscription's Concurrency. No driver of Watermill deduplicates:
// DedupID is not sent.
//
// # What holds over which broker
//
// Only Redis Streams is run in our tests. The others are here by the documentation and
// the source of their drivers, whose defaults are not enough:
//
//	Kafka           Publisher: NewWithPartitioningMarshaler(PartitionKey),
//	                Producer.RequiredAcks WaitForAll (the default waits for the
//	                leader alone). Subscriber: Consumer.Offsets.Initial OffsetOldest
//	                (the default leaves out what is there already). A group gives
//	                each partition to one process: order holds, also over processes.
//	                A partition that moves may be handled twice for a moment. More
//	                partitions later move keys, and lose their order once.
//	Google Pub/Sub  Publisher: an ordering marshaler with PartitionKey,
//	                EnableMessageOrdering, and with it
//	                EnableMessageOrderingAutoResumePublishOnError, or a key is stuck
//	                after its first error. Subscriber: a subscription by group and
//	                topic, with message ordering. Order holds. A subscription gets
//	                what is published after it was made, not before.
//	RabbitMQ        NewDurablePubSubConfig with a queue by group and topic
//	                (GenerateQueueNameTopicNameWithSuffix), Publish.ConfirmDelivery
//	                (the default confirms nothing), queue argument
//	                x-single-active-consumer, prefetch 1. Order holds, one message at
//	                a time. A queue gets what is published after it was made: a
//	                message that no queue is bound for is confirmed and gone.
//	Redis Streams   package redisgroup. One process at a time, one message at a
//	                time: then order holds, also over restarts. Two processes get
//	                the messages of a key side by side. A stream grows until
//	                somebody trims it, and is as durable as appendfsync makes it.
//
// When what a dead process had in hand comes again is set at the broker; AckWait is not
// passed on. Where order must hold over more than the table says, the mode ByVersion of
// the package inbox applies events in the order of their versions.
//
// # What is true when a message is not taken
//
// A driver returns one error for a message that the broker will never take and for a
// broker that is away. The Publisher takes it for that of the message when the broker
// has acknowledged another one meanwhile, and the outbox parks it then, with its
// aggregate; else for that of the broker, and the outbox waits. So a message that is
// never taken and the only one that waits stops the outbox that publishes it. Name the
// errors that mean it in PublisherConfig.Refused, and its size in MaxPayload.
//
// # What is true when a publisher hangs
//
// Watermill has no way to call a publication off. When the context of Publish ends, the
// message that the driver has may or may not be stored, and its key stays reserved in
// this Publisher until the driver returns: a later call waits, it does not overtake. A
// driver that never returns holds its keys for as long as the process lives, so set its
// timeouts. Another process knows nothing of this.
package watermill
