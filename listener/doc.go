// Package listener holds the named entry points that wait for payloads: what a person writes about one ([Definition]), how calls find it
// ([Router]), and how a payload is taken in ([Receiver]): read within its limits, its syntax checked on the way, stored durably, and
// answered.
//
// The order of work is a promise: nothing is answered with success before the payload is durable (asynchronous) or its run has ended
// (synchronous), and a payload that is refused leaves nothing behind.
package listener
