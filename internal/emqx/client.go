package emqx

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The errors of a Client. Each is wrapped with what was asked.
var (
	// ErrUnreachable means that no HTTP answer could be had.
	ErrUnreachable = errors.New("the API cannot be reached")
	// ErrUnauthorized means that EMQX does not know the key or its secret.
	ErrUnauthorized = errors.New("the API key is refused")
	// ErrForbidden means that the key's role does not allow the request.
	ErrForbidden = errors.New("the role of the API key does not allow this")
	// ErrNotFound means that there is no such thing, or no such API.
	ErrNotFound = errors.New("not found")
	// ErrUnexpected means an answer that is none of EMQX's API.
	ErrUnexpected = errors.New("unexpected answer")
)

const (
	requestTimeout = 10 * time.Second
	// maxBody bounds an answer.
	maxBody = 8 << 20
)

// Options configure a Client. API, Key and Secret are required.
type Options struct {
	API string // http://emqx:18083
	Key string
	// Secret is called for each request, so that a rotated secret needs no restart.
	Secret func() (string, error)
	// TLS is called for each connection to an https:// API; nil: the system's CAs.
	TLS func() (*tls.Config, error)
}

// Client sends requests to EMQX's API. It is safe for concurrent use.
type Client struct {
	opts Options
	http *http.Client
}

// New returns a client; it does no I/O.
func New(opts Options) *Client {
	c := &Client{opts: opts}
	transport := &http.Transport{
		MaxIdleConns: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: requestTimeout,
		DialTLSContext: c.dialTLS,
	}
	c.http = &http.Client{
		Transport: transport, Timeout: requestTimeout,
		// The key must not follow a redirect to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.opts.TLS != nil {
		var err error
		if conf, err = c.opts.TLS(); err != nil {
			return nil, err
		}
	}
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conf.ServerName = host
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: requestTimeout}, Config: conf}
	return d.DialContext(ctx, network, address)
}

// get decodes the JSON answer of a GET into answer.
func (c *Client) get(ctx context.Context, path string, query url.Values, answer any) error {
	body, err := c.do(ctx, http.MethodGet, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("GET %s: %w: %w", path, ErrUnexpected, err)
	}
	return nil
}

// do sends one request without a body and returns the body of a 2xx answer.
func (c *Client) do(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	what := method + " " + path
	secret, err := c.opts.Secret()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.opts.API+"/api/v5"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	req.SetBasicAuth(c.opts.Key, secret)
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, ErrUnreachable, withoutURL(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, ErrUnreachable, err)
	}
	if err := refusal(resp, answer); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return answer, nil
}

// withoutURL drops the URL that http.Client puts before an error: the request names it.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal is the error of an answer that is not 2xx.
func refusal(resp *http.Response, body []byte) error {
	if resp.StatusCode/100 == 2 {
		return nil
	}
	kind := ErrUnexpected
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		kind = ErrUnauthorized
	case http.StatusForbidden:
		kind = ErrForbidden
	case http.StatusNotFound:
		kind = ErrNotFound
	}
	var message struct{ Code, Message string }
	text := resp.Status
	if json.Unmarshal(body, &message) == nil && message.Code+message.Message != "" {
		text += ": " + strings.TrimSpace(message.Code+" "+message.Message)
	}
	const most = 200
	if len(text) > most {
		text = text[:most] + "…"
	}
	return fmt.Errorf("%w (%s)", kind, text)
}
