package advice

import (
	"errors"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/kv"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

// streamed is about messages that a stream does not take. The numbers are nats-server's
// (server/errors.json, 2.15).
func streamed(err error) string {
	code := 0
	var own *publish.APIError
	var lib *natsjs.APIError
	switch {
	case errors.As(err, &own):
		code = own.ErrCode
	case errors.As(err, &lib):
		code = int(lib.ErrorCode)
	case errors.Is(err, nats.ErrHeadersNotSupported):
		return "the server has headers switched off: remove no_header_support from its configuration"
	case errors.Is(err, publish.ErrNoResponders):
		return "if this lasts, a stream is missing: compare with `mqtt-nats-bridge streams plan`"
	}
	switch code {
	case 10060, 10109:
		return "the stream is sealed or not the one expected: look at it with `nats stream info`"
	case 10054, 10097:
		return "the quarantine stream refuses even the smallest copy of a message: raise its max_msg_size"
	case 10076:
		return "enable JetStream in the server's configuration (jetstream { store_dir: … })"
	case 10039:
		return "enable JetStream for the account in the server's configuration"
	case 10077:
		return "the stream is full and discards new messages, or the disk is: raise its limits or free space"
	case 10002, 10028, 10047, 10023:
		return "raise the JetStream limits of the account or the server (max_file_store), free space, or lower max_bytes of the streams, which is reserved in full"
	}
	return ""
}

// bucket is about a KV bucket that is followed.
func bucket(err error) string {
	var missing *kv.MissingError
	if errors.As(err, &missing) {
		return "create it with nats kv add " + missing.Bucket
	}
	return ""
}

// consumer is about the consumer of workers.
func consumer(err error) string {
	if errors.Is(err, consume.ErrNoConsumer) {
		return "start the bridge, which creates it, or create it with `mqtt-nats-bridge streams apply`"
	}
	return ""
}

// Streams adds to each of the contradictions in err, an error of [streams.Manage], what to
// do about it: there are several, and each has its own way out. Other errors are returned
// as they are.
func Streams(err error) error {
	var all streams.Contradictions
	if errors.As(err, &all) {
		for _, c := range all {
			c.Advice = contradiction(c)
		}
	}
	return err
}

func contradiction(c *streams.Contradiction) string {
	switch c.Kind {
	case streams.SubjectTaken:
		return "take it out of that stream, declare that stream instead, or set streams.manage: off"
	case streams.StreamMissing:
		return "run mqtt-nats-bridge streams apply, or set streams.manage: create"
	case streams.StreamUnmanaged:
		return "the owner of the stream must correct it"
	case streams.StreamFixed:
		text := "remove the stream (its messages go with it), or set streams.manage: off"
		if c.Field.Name == "storage" || c.Field.Name == "retention" {
			text = "declare " + c.Field.Is + " instead, " + text
		}
		return text
	case streams.StreamDiffers:
		return "run mqtt-nats-bridge streams apply, or set streams.manage: off if the stream is externally managed"
	case streams.ConsumerFixed:
		return "remove the consumer (its position goes with it) or declare another name"
	case streams.ConsumerDiffers:
		return "run mqtt-nats-bridge streams apply, or change it with nats consumer edit"
	}
	return ""
}
