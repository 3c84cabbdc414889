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

// The errors of a Client. Each is wrapped with the request.
var (
	// ErrUnreachable means that the API did not return an HTTP response.
	ErrUnreachable = errors.New("the API cannot be reached")
	// ErrUnauthorized means that the key or its secret is invalid.
	ErrUnauthorized = errors.New("the API key is refused")
	// ErrForbidden means that the key's role does not allow the request.
	ErrForbidden = errors.New("the role of the API key does not allow this")
	// ErrNotFound means that the object or the API does not exist.
	ErrNotFound = errors.New("not found")
	// ErrUnexpected means that the response is not one of EMQX's API.
	ErrUnexpected = errors.New("unexpected response")
)

const (
	requestTimeout = 10 * time.Second
	// maxBody bounds the body of a response, in bytes.
	maxBody = 8 << 20
)

// Options configures a Client. All fields are required; TLS only for an https:// API.
type Options struct {
	API string // http://emqx:18083
	Key string
	// Secret is called for each request, so that a rotated secret needs no restart.
	Secret func() (string, error)
	// TLS is called for each connection to an https:// API.
	TLS func() (*tls.Config, error)
}

// Client sends requests to EMQX's API. It is safe for concurrent use.
type Client struct {
	opts Options
	http *http.Client
}

// New returns a client. It does no I/O.
func New(opts Options) *Client {
	c := &Client{opts: opts}
	transport := &http.Transport{
		MaxIdleConns: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: requestTimeout,
		DialTLSContext: c.dialTLS,
	}
	c.http = &http.Client{
		Transport: transport, Timeout: requestTimeout,
		// Redirects are not followed, because the key must not be sent to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conf, err := c.opts.TLS()
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: requestTimeout}, Config: conf}
	return d.DialContext(ctx, network, address)
}

// get decodes the JSON body of a GET response into result.
func (c *Client) get(ctx context.Context, path string, query url.Values, result any) error {
	body, err := c.do(ctx, http.MethodGet, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, result); err != nil {
		return fmt.Errorf("GET %s: %w: %w", path, ErrUnexpected, err)
	}
	return nil
}

// do sends one request without a body and returns the body of a 2xx response.
func (c *Client) do(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	request := method + " " + path
	secret, err := c.opts.Secret()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.opts.API+"/api/v5"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", request, err)
	}
	req.SetBasicAuth(c.opts.Key, secret)
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", request, ErrUnreachable, withoutURL(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", request, ErrUnreachable, err)
	}
	if err := responseError(resp, body); err != nil {
		return nil, fmt.Errorf("%s: %w", request, err)
	}
	return body, nil
}

// withoutURL removes the URL that http.Client adds to an error, because the request already contains it.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// responseError returns the error of a response that is not 2xx.
func responseError(resp *http.Response, body []byte) error {
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
	const limit = 200
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	return fmt.Errorf("%w (%s)", kind, text)
}
