package emqx

import (
	"context"
	"net/http"
	"net/url"
)

// Listener is one listener of EMQX.
type Listener struct {
	Enabled bool `json:"enable"`
	Running bool `json:"running"`
}

// Listener returns one listener.
func (c *Client) Listener(ctx context.Context, id string) (Listener, error) {
	var answer Listener
	err := c.get(ctx, "/listeners/"+url.PathEscape(id), nil, &answer)
	return answer, err
}

// StartListener enables and starts a listener on all nodes. EMQX stores this in its data directory.
// At the next start, emqx.conf takes precedence.
func (c *Client) StartListener(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodPost, "/listeners/"+url.PathEscape(id)+"/start", nil)
	return err
}
