package endpoint

import (
	"context"
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

// ErrNotReady means that the program reports that it is not ready.
var ErrNotReady = errors.New("not ready")

const (
	healthcheckTimeout = 5 * time.Second
	maxHealthcheckBody = 1 << 20
)

// Healthcheck checks whether the program that listens at listen on this machine is ready. name is the
// program's name in errors. The check takes at most 5 s. If the program is not ready, the error wraps
// ErrNotReady and contains all problems.
func Healthcheck(ctx context.Context, name, listen string) error {
	address, err := dialable(listen)
	if err != nil {
		return fmt.Errorf("check readiness of %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("check readiness of %s: %w", name, err)
	}
	// A separate transport uses no proxy from the environment and keeps no connection open.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("check readiness of %s: %w", name, err)
	}
	defer resp.Body.Close()
	var result readiness
	err = json.NewDecoder(io.LimitReader(resp.Body, maxHealthcheckBody)).Decode(&result)
	switch {
	case err != nil:
		return fmt.Errorf("check readiness of %s: %s answered with %s and without a readiness report; check that this address is its admin.listen", name, address, resp.Status)
	case result.Ready && resp.StatusCode == http.StatusOK:
		return nil
	}
	return fmt.Errorf("%s is %w: %s", name, ErrNotReady, joinProblems(result.Problems))
}

func joinProblems(problems []Problem) string {
	all := make([]string, 0, len(problems))
	for _, p := range problems {
		text := p.Component + ": " + p.Problem
		if p.Advice != "" {
			text += " (" + p.Advice + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// URL returns the base URL of an admin endpoint. admin is its listen address or a URL.
func URL(admin string) (*url.URL, error) {
	if !strings.Contains(admin, "://") {
		address, err := dialable(admin)
		if err != nil {
			return nil, err
		}
		return &url.URL{Scheme: "http", Host: address}, nil
	}
	u, err := url.Parse(admin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("not the address of an admin endpoint; write it like 127.0.0.1:9464 or https://host/path")
	}
	return u, nil
}

// dialable returns the address at which a listen address can be reached from this machine. It
// replaces an unspecified address, which cannot be dialled.
func dialable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" || port == "0" {
		return "", fmt.Errorf("admin.listen is %q, which is not an address with a port", listen)
	}
	// A listener on [::] also accepts IPv4, and ::1 may not exist.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
