package advice

import (
	"errors"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

// publishing returns advice about messages that a stream refuses. The numbers are nats-server's
// error codes (server/errors.json, 2.15).
func publishing(err error) string {
	code := 0
	var own *publish.APIError
	var lib *natsjs.APIError
	switch {
	case errors.As(err, &own):
		code = own.ErrCode
	case errors.As(err, &lib):
		code = int(lib.ErrorCode)
	}
	switch code {
	case 10060, 10109:
		return "the stream is sealed or not the expected one: inspect it with `nats stream info`"
	case 10054, 10097:
		return "the quarantine stream refuses even the smallest copy of a message: raise its max_msg_size"
	case 10076:
		return "enable JetStream in the server's configuration (jetstream { store_dir: … })"
	case 10039:
		return "enable JetStream for the account in the server's configuration"
	case 10077:
		return "the stream is full and discards new messages, or the disk is full: raise the stream's limits or free space"
	case 10002, 10028, 10047, 10023:
		return "raise the JetStream limits of the account or the server (max_file_store), free space, or lower max_bytes of the streams, which is reserved in full"
	}
	return ""
}

// Streams sets the advice of each contradiction in err, which is an error of [streams.Manage]. There
// can be several contradictions, and each needs its own advice. Other errors are returned unchanged.
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
		return "remove the subject from that stream, declare that stream instead, or set streams.manage: off"
	case streams.StreamMissing:
		return "run mqtt-nats-bridge streams apply, or set streams.manage: create"
	case streams.StreamUnmanaged:
		return "the owner of the stream must correct it"
	case streams.StreamFixed:
		text := "delete the stream and its messages, or set streams.manage: off"
		if c.Field.Name == "storage" || c.Field.Name == "retention" {
			text = "declare " + c.Field.Is + " instead, " + text
		}
		return text
	case streams.StreamDiffers:
		return "run mqtt-nats-bridge streams apply, or set streams.manage: off if the stream is externally managed"
	case streams.ConsumerFixed:
		return "delete the consumer and its position, or declare another name"
	case streams.ConsumerDiffers:
		return "run mqtt-nats-bridge streams apply, or change it with nats consumer edit"
	}
	return ""
}
