package ingestbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/ingest"
	"mqtt-nats-bridge/internal/measure"
	"mqtt-nats-bridge/internal/port"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

// stream and consumer are the default names in the bridge's configuration.
const (
	stream   = "TELEMETRY"
	consumer = "ingest-workers"
)

// Serve runs the nats-server process of a bench. It prints its URL and runs until ctx ends.
func Serve(ctx context.Context, out io.Writer, store string) error {
	srv, err := embedded.Open(embedded.Options{StoreDir: store, Port: -1})
	if err != nil {
		return err
	}
	defer srv.Close()
	fmt.Fprintln(out, srv.URL())
	<-ctx.Done()
	return nil
}

func (b *bench) startServer(ctx context.Context, dir string) (err error) {
	if b.nats, err = measure.Start(ctx, nil, "bench-server", "--store", dir); err != nil {
		return err
	}
	b.url, err = b.nats.ReadLine(20 * time.Second)
	return err
}

// load fills the stream once. Every round reads it from the beginning.
func (b *bench) load(ctx context.Context) error {
	return measure.JetStream(b.url, func(js natsjs.JetStream) error { return b.fill(ctx, js) }, natsjs.WithPublishAsyncMaxPending(1000))
}

func (b *bench) fill(ctx context.Context, js natsjs.JetStream) error {
	_, err := js.CreateStream(ctx, natsjs.StreamConfig{
		Name: stream, Subjects: []string{"tenant.*.device.*.*"}, MaxBytes: 8 << 30, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return err
	}
	began := time.Now().UnixMilli()
	for n := range b.Messages {
		payload := fmt.Sprintf(`{"ts":%d,"temperature":%.2f,"humidity":%d,"ok":true,"note":"`, began+int64(n), float64(n%4000)/100, n%100)
		payload += strings.Repeat("x", max(0, b.Size-len(payload)-2)) + `"}`
		msg := &nats.Msg{Subject: fmt.Sprintf("tenant.t%d.device.d%05d.telemetry", n%10, n%b.Devices), Data: []byte(payload), Header: nats.Header{
			// These are the headers of messages from attested topics. EMQX's ids begin with the
			// time in µs.
			"Nats-Msg-Id": {fmt.Sprintf("%016X4BB44B%010X", 1000*began+int64(n), n)},
			"Bridge-Cn":   {fmt.Sprintf("t%d/d%05d", n%10, n%b.Devices)},
			"Bridge-Time": {time.UnixMilli(began + int64(n)).UTC().Format("2006-01-02T15:04:05.000Z")},
		}}
		if _, err := js.PublishMsgAsync(msg, natsjs.WithStallWait(time.Minute)); err != nil {
			return fmt.Errorf("fill the stream: %w", err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if stored := s.CachedInfo().State.Msgs; stored != uint64(b.Messages) {
		return fmt.Errorf("fill the stream: it contains %d of %d messages", stored, b.Messages)
	}
	return nil
}

// ingest runs one ingest process until it has acknowledged all messages.
func (b *bench) ingest(ctx context.Context, r *result, profiled bool) (err error) {
	if err := b.rewind(ctx); err != nil {
		return err
	}
	admin, release, err := port.Reserve()
	if err != nil {
		return err
	}
	defer release()
	listen := admin.String()
	database, err := url.Parse(b.URL)
	if err != nil {
		return err
	}
	q := database.Query()
	q.Set("search_path", b.schema)
	database.RawQuery = q.Encode()
	server, err := b.nats.CPU()
	if err != nil {
		return err
	}
	p, err := measure.Start(ctx, []string{
		"DATABASE_URL=" + database.String(), "NATS_URL=" + b.url, "INGEST_ADMIN_LISTEN=" + listen,
		"INGEST_SHADOW_STREAM=", "INGEST_COMMANDS_STREAM=", "INGEST_LOG_LEVEL=warn", "INGEST_LOG_FORMAT=json",
		"INGEST_TELEMETRY_WORKERS=" + strconv.Itoa(b.Workers), "INGEST_BATCH_MESSAGES=" + strconv.Itoa(b.Batch),
	}, "run")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	began, first, last, err := b.watch(ctx, p, listen, profiled)
	if err != nil {
		return err
	}
	// Measure from the first batch on, without the start of the process.
	took := time.Since(began).Seconds()
	r.rate = float64(last.Rows-first.Rows) / took
	r.rowsPerExchange = float64(last.Rows) / float64(last.Exchanges)
	after, err := b.nats.CPU()
	if err != nil {
		return err
	}
	r.server = after - server
	if r.ingest, err = p.CPU(); err != nil {
		return err
	}
	r.rss, err = p.PeakRSS()
	return err
}

// rewind resets the consumer to the first message.
func (b *bench) rewind(ctx context.Context) error {
	return measure.JetStream(b.url, func(js natsjs.JetStream) error {
		if err := js.DeleteConsumer(ctx, stream, consumer); err != nil && !errors.Is(err, natsjs.ErrConsumerNotFound) {
			return err
		}
		_, err := streams.Manage(ctx, js, streams.ManageCreate, nil, []streams.ConsumerSpec{{Stream: stream, Name: consumer}})
		return err
	})
}

// watch waits until all rows are stored. began and first are from the first status with a row.
func (b *bench) watch(ctx context.Context, p *measure.Process, listen string, profiled bool) (began time.Time, first, last ingest.TableStatus, err error) {
	var profile chan error
	progress := time.Now()
	for {
		status, err := ask(ctx, listen)
		switch {
		case err == nil && len(status.Tables) == 1:
			if status.Tables[0].Rows > last.Rows {
				progress = time.Now()
			}
			last = status.Tables[0]
			if began.IsZero() && last.Rows > 0 {
				began, first = time.Now(), last
				if profiled && b.Profile != "" {
					profile = make(chan error, 1)
					go func() {
						profile <- measure.Fetch("http://"+listen+"/debug/pprof/profile?seconds=2", filepath.Join(b.Profile, "ingest.pprof"))
					}()
				}
			}
			if last.Rows >= uint64(b.Messages) {
				if profile != nil {
					err = <-profile
				}
				return began, first, last, err
			}
		case time.Since(progress) > 30*time.Second:
			return began, first, last, fmt.Errorf("read the status of ingest: %w; its log: %s", err, p.LogTail())
		}
		if time.Since(progress) > 30*time.Second {
			return began, first, last, fmt.Errorf("ingest has stored %d of %d rows; its log: %s", last.Rows, b.Messages, p.LogTail())
		}
		if !sleep.For(ctx, 10*time.Millisecond) {
			return began, first, last, ctx.Err()
		}
	}
}

func ask(ctx context.Context, listen string) (s ingest.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
