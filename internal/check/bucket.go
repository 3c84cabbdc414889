package check

import (
	"context"
	"errors"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/config"
)

// buckets checks that the bridge may follow the KV buckets that it reads.
func (n *natsCheck) buckets(ctx context.Context) {
	if name := n.config.Limits.Bucket; name != "" {
		// The bucket is optional.
		n.bucket(ctx, name, n.report.Note, func(what string) {
			n.report.Note(what, "does not exist; the configured limits apply to all. To set other limits: nats kv add %s", name)
		}, "or empty limits.bucket")
	}
	if r := n.config.Identity.Registry; r.Kind == config.RegistryKV {
		n.bucket(ctx, r.Bucket, n.report.Fail, func(what string) {
			n.report.Fail(what, "does not exist, and without the registry no message is taken: nats kv add %s", r.Bucket)
		}, "without the registry no message is taken")
	}
}

// bucket looks up the bucket, then probes the permission for a consumer. The probe is an empty
// configuration, whose name does not match the subject of the request, so nats-server refuses it
// without any effect.
func (n *natsCheck) bucket(ctx context.Context, name string, bad func(what, format string, args ...any), missing func(what string), otherwise string) {
	what, stream := "bucket "+name, "KV_"+name
	bounded, stop := n.watch.guard(ctx)
	found, err := n.js.Stream(bounded, stream)
	stop()
	switch {
	case errors.Is(err, natsjs.ErrStreamNotFound):
		missing(what)
		return
	case refused(bounded):
		bad(what, "may not be read: %v: allow publishing to %s.STREAM.INFO.%s, %s", context.Cause(bounded), n.api, stream, otherwise)
		return
	case err != nil:
		bad(what, "%v: see the server's log", n.watch.explain(bounded, err))
		return
	}
	if found.CachedInfo().Config.MaxMsgsPerSubject < 1 {
		bad(what, "stream %s is not a KV bucket: delete it and create one with nats kv add %s", stream, name)
		return
	}
	for _, subject := range []string{
		n.api + ".CONSUMER.CREATE." + stream + ".check.$KV." + name + ".>",
		n.api + ".CONSUMER.DELETE." + stream + ".check",
		"$JS.FC." + stream + ".check.check",
	} {
		bounded, stop := n.watch.guard(ctx)
		// Any answer of JetStream, and "no responders", means that it is permitted.
		_, err := n.nc.RequestWithContext(bounded, subject, []byte("{}"))
		stop()
		if refused(bounded) {
			bad(what, "may not be followed: %v: allow what nats.conf has for %s, %s", context.Cause(bounded), stream, otherwise)
			return
		}
		if errors.Is(err, context.DeadlineExceeded) {
			n.report.Note(what, "could not determine whether it may be followed: no answer to %s", subject)
		}
	}
	n.report.OK(what, "%d keys, may be followed", found.CachedInfo().State.NumSubjects)
}
