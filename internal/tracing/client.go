package tracing

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// client sends spans by OTLP over HTTP with protobuf. OpenTelemetry's own clients, even that for HTTP,
// link gRPC, which adds 5 MB to each program.
type client struct {
	url  string
	http *http.Client
}

const tracesPath = "/v1/traces"

func newClient(endpoint string) *client {
	endpoint = strings.TrimSuffix(endpoint, "/")
	if !strings.HasSuffix(endpoint, tracesPath) {
		endpoint += tracesPath
	}
	return &client{url: endpoint, http: &http.Client{
		Transport: http.DefaultTransport.(*http.Transport).Clone(),
		// Redirects are not followed, so that spans are sent only to the configured collector.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// upload sends spans. TracesData has the same encoding as ExportTraceServiceRequest, whose package links
// gRPC.
func (c *client) upload(ctx context.Context, spans *tracepb.TracesData) error {
	body, err := proto.Marshal(spans)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be reused
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("collector answered %s", response.Status)
	}
	return nil
}
