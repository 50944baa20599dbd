// Package failpoint ends the process at a chosen place, as kill -9 would, so that a test
// can show what is true after a crash there.
//
// Places are marked with At. Without the build tag failpoints a mark is an empty function
// that the compiler removes. A program that was built with the tag reads, once, at its
// start:
//
//	FAILPOINTS=before-reply/PlaceOrder=crash@2   die when it is reached the second time
//	FAILPOINTS_MARK=file                         write down there, synced, where it died
//	FAILPOINTS_SEEN=file                         append each name that is reached, once
//
// Several places are separated by commas. A setting that cannot be read ends the program
// with exit code 2: a crash that was asked for and never comes would pass for a proof.
//
// Run a system once with FAILPOINTS_SEEN and once more for each name in the file, and
// every marked place that was reached has been crashed at, also one that somebody adds
// tomorrow. The
// idea is that of FreeBSD's fail(9) and etcd's gofail.
package failpoint

// Point is a place where a process may die. Any name will do, without a slash, a comma or
// an equals sign; those of the platform are constants.
type Point string

// The places of the platform. What is behind the slash of their names tells more: the
// function that commits, the step that is called, the method that is answered.
const (
	// BeforeCommit and AfterCommit are around a COMMIT of package postgres.
	BeforeCommit Point = "before-commit"
	AfterCommit  Point = "after-commit"
	// BeforeRecord and AfterRecord are around storing the progress of a saga, AfterClaim
	// is after taking one.
	BeforeRecord Point = "before-record"
	AfterRecord  Point = "after-record"
	AfterClaim   Point = "after-claim"
	// BeforeCall and AfterCall are around a call of a saga's step.
	BeforeCall Point = "before-call"
	AfterCall  Point = "after-call"
	// BeforeReply and AfterReply are around the response to a unary call.
	BeforeReply Point = "before-reply"
	AfterReply  Point = "after-reply"
	// BeforePublish and AfterPublish are around handing events to the broker, BeforeStep
	// and AfterStep around storing how far that has come.
	BeforePublish Point = "before-publish"
	AfterPublish  Point = "after-publish"
	BeforeStep    Point = "before-step"
	AfterStep     Point = "after-step"
	// BeforeAck and AfterAck are around acknowledging a message to the broker.
	BeforeAck Point = "before-ack"
	AfterAck  Point = "after-ack"
)
