package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"mqtt-nats-bridge/internal/page"
)

const (
	fetchTimeout = 8 * time.Second // longer than a program needs for its view
	maxView      = 8 << 20
)

// fetch requests the view from the admin endpoint at base.
func fetch(ctx context.Context, base *url.URL) (*page.View, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("page", "view").String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request the view from %s: %w", base.Redacted(), err)
	}
	// Connections are not reused, because the program may have been restarted.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	response, err := client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL
		}
		return nil, fmt.Errorf("no answer from %s: %w", base.Redacted(), err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered with %s; check that it is an admin endpoint of this version", base.Redacted(), response.Status)
	}
	v := &page.View{}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxView)).Decode(v); err != nil {
		return nil, fmt.Errorf("%s did not answer with a view (%w); check that it is an admin endpoint of this version", base.Redacted(), err)
	}
	return v, nil
}
