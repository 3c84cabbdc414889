package leaf

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// Renew reads the credentials and CA certificates of the link again and applies them if they have
// changed. It is for a link that is down: at each attempt the server itself reads only creds and
// the client certificate again. It must not be called concurrently.
func (l *Leaf) Renew() error {
	remote, err := l.options.remote()
	if err != nil {
		return fmt.Errorf("read the credentials of the link: %w", err)
	}
	presented := l.options.presented(remote)
	if presented == l.presented {
		return nil
	}
	if err := l.reload(remote); err != nil {
		return fmt.Errorf("renew the credentials of the link: %w", err)
	}
	l.presented = presented
	return nil
}

func (l *Leaf) reload(remote *natsd.RemoteLeafOpts) error {
	return l.server.Reload(l.serverOptions(remote))
}

// join starts the link.
func (l *Leaf) join() error {
	remote, err := l.options.remote()
	if err != nil {
		return fmt.Errorf("read the credentials of the link: %w", err)
	}
	l.apart = false
	if err := l.reload(remote); err != nil {
		l.apart = true
		return fmt.Errorf("open the link: %w", err)
	}
	l.presented = l.options.presented(remote)
	return nil
}

// presented is a fingerprint of the credentials that the server does not read again by itself.
func (o Options) presented(remote *natsd.RemoteLeafOpts) string {
	var b strings.Builder
	for _, u := range remote.URLs {
		fmt.Fprintln(&b, u)
	}
	fmt.Fprintln(&b, remote.Nkey)
	if hub, err := o.Hub.Resolve(); err == nil && hub.TLSFiles.CA != "" {
		content, _ := os.ReadFile(hub.TLSFiles.CA)
		b.Write(content)
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(b.String())))
}
