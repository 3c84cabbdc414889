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

// ErrNotReady means that the program answers that it is not ready.
var ErrNotReady = errors.New("not ready")

const (
	healthcheckTimeout = 5 * time.Second
	maxHealthcheckBody = 1 << 20
)

// Healthcheck asks the program, called by name in errors, that listens at listen on this machine whether it
// is ready. It takes 5 s at most. The error says what is in the way: it is
// ErrNotReady with all problems, or that nobody answers.
func Healthcheck(ctx context.Context, name, listen string) error {
	address, err := dialable(listen)
	if err != nil {
		return fmt.Errorf("ask %s whether it is ready: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	// Its own transport: no proxy from the environment, no connection kept.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s whether it is ready: %w", name, err)
	}
	defer resp.Body.Close()
	var answer readiness
	err = json.NewDecoder(io.LimitReader(resp.Body, maxHealthcheckBody)).Decode(&answer)
	switch {
	case err != nil:
		return fmt.Errorf("ask %s whether it is ready: %s answers with %s and no readiness: is that its admin.listen?", name, address, resp.Status)
	case answer.Ready && resp.StatusCode == http.StatusOK:
		return nil
	}
	return fmt.Errorf("%s is %w: %s", name, ErrNotReady, sentences(answer.Problems))
}

func sentences(problems []Problem) string {
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

// URL returns the base address of an admin endpoint from what it listens at, or from a URL.
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
		return nil, errors.New("no address of an admin endpoint: write it like 127.0.0.1:9464 or https://host/path")
	}
	return u, nil
}

// dialable is where a listen address can be reached on this machine: "all
// addresses" are listened on, not dialled.
func dialable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" || port == "0" {
		return "", fmt.Errorf("admin.listen is %q, which is no address with a port", listen)
	}
	// A listener on [::] takes IPv4 as well, where ::1 may not exist.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
