package emqx

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
)

// Session is a client's session. EMQX updates its figures every 15 s.
type Session struct {
	ClientID  string `json:"clientid"`
	Username  string `json:"username"`
	Connected bool   `json:"connected"`
	Listener  string `json:"listener"` // tcp:default
	// QueueLength, QueueLimit and QueueDropped describe the queue of messages that wait for the
	// in-flight window.
	QueueLength  int64  `json:"mqueue_len"`
	QueueLimit   Limit  `json:"mqueue_max"`
	QueueDropped uint64 `json:"mqueue_dropped"`
	InFlight     int64  `json:"inflight_cnt"`
}

// Limit is a number. 0 represents EMQX's "infinity".
type Limit int64

// UnmarshalJSON implements [json.Unmarshaler].
func (l *Limit) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*l = 0
		return nil
	}
	return json.Unmarshal(text, (*int64)(l))
}

// page is the envelope of a list.
type page[T any] struct {
	Data []T `json:"data"`
}

// perRequest is the number of client ids per request. It keeps the URL below 8 KiB.
const perRequest = 64

// Sessions returns the existing sessions of the given client ids, connected or not, by client id.
func (c *Client) Sessions(ctx context.Context, clientIDs []string) (map[string]Session, error) {
	all := make(map[string]Session, len(clientIDs))
	for ids := range slices.Chunk(clientIDs, perRequest) {
		sessions, err := c.sessions(ctx, url.Values{"clientid": ids, "limit": {strconv.Itoa(len(ids))}})
		if err != nil {
			return nil, err
		}
		for _, s := range sessions {
			all[s.ClientID] = s
		}
	}
	return all, nil
}

// SampleSessions returns at most n sessions of connected clients.
func (c *Client) SampleSessions(ctx context.Context, n int) ([]Session, error) {
	return c.sessions(ctx, url.Values{"conn_state": {"connected"}, "limit": {strconv.Itoa(n)}})
}

func (c *Client) sessions(ctx context.Context, query url.Values) ([]Session, error) {
	// The parameter fields is not used: in EMQX 5.8.9 it does not support listener.
	var answer page[Session]
	err := c.get(ctx, "/clients", query, &answer)
	return answer.Data, err
}

// Counters are totals of the whole cluster since its nodes started.
type Counters struct {
	// NoSubscribers counts messages without a subscribed session. It includes a device's original
	// message if only the rule processes it.
	NoSubscribers uint64 `json:"messages.dropped.no_subscribers"`
	// QueueFull counts messages dropped from full queues of all sessions.
	QueueFull uint64 `json:"delivery.dropped.queue_full"`
}

// Counters returns the broker's counters.
func (c *Client) Counters(ctx context.Context) (Counters, error) {
	var answer Counters
	err := c.get(ctx, "/metrics", url.Values{"aggregate": {"true"}}, &answer)
	return answer, err
}

// Subscription is one filter of one session.
type Subscription struct {
	ClientID string `json:"clientid"`
	Filter   string `json:"topic"` // $share/group/filter for a shared one
}

// GroupMembers returns the subscriptions in a $share group. EMQX searches its whole subscription
// table for them.
func (c *Client) GroupMembers(ctx context.Context, group string) ([]Subscription, error) {
	var answer page[Subscription]
	err := c.get(ctx, "/subscriptions", url.Values{"share_group": {group}, "limit": {"1000"}}, &answer)
	return answer.Data, err
}
