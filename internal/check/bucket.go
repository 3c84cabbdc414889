package check

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/config"
)

// buckets checks that the bridge may follow the KV buckets that it reads.
func (n *natsCheck) buckets(ctx context.Context) {
	if name := n.config.Limits.Bucket; name != "" {
		// The bucket is optional.
		n.bucket(ctx, name, n.report.Note, "; the configured limits apply to all. To set other limits", "or empty limits.bucket")
	}
	if r := n.config.Identity.Registry; r.Kind == config.RegistryKV {
		const otherwise = "without the registry no message is taken"
		n.bucket(ctx, r.Bucket, n.report.Fail, ", and "+otherwise, otherwise)
	}
}

// bucket looks up the bucket, then probes the permission for a consumer. The probe is an empty
// configuration, whose name does not match the subject of the request, so nats-server refuses it
// without any effect. If the bucket does not exist, missing follows in the text.
func (n *natsCheck) bucket(ctx context.Context, name string, bad func(what, format string, args ...any), missing, otherwise string) {
	what, stream := "bucket "+name, "KV_"+name
	found, err := n.stream(ctx, stream)
	switch {
	case errors.Is(err, natsjs.ErrStreamNotFound):
		bad(what, "does not exist%s: nats kv add %s", missing, name)
		return
	case refused(err):
		bad(what, "may not be read: %v: allow publishing to %s.STREAM.INFO.%s, %s", err, n.api, stream, otherwise)
		return
	case err != nil:
		bad(what, "%v: see the server's log", err)
		return
	case found.Config.MaxMsgsPerSubject < 1:
		bad(what, "stream %s is not a KV bucket: delete it and create one with nats kv add %s", stream, name)
		return
	}
	for _, subject := range []string{
		n.api + ".CONSUMER.CREATE." + stream + ".check.$KV." + name + ".>",
		n.api + ".CONSUMER.DELETE." + stream + ".check",
		"$JS.FC." + stream + ".check.check",
	} {
		// Any answer of JetStream, and "no responders", means that it is permitted.
		_, err := n.request(ctx, &nats.Msg{Subject: subject, Data: []byte("{}")})
		if refused(err) {
			bad(what, "may not be followed: %v: allow what nats.conf has for %s, %s", err, stream, otherwise)
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			n.report.Note(what, "could not determine whether it may be followed: no answer to %s", subject)
		}
	}
	n.report.OK(what, "%d keys, may be followed", found.State.NumSubjects)
}
