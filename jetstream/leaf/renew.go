package leaf

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// Renew reads the credentials and CA certificates of the link again and applies them if they have
// changed. Call it while the link is down: on each attempt the server itself reads only creds and
// the client certificate again. It must not be called concurrently.
func (l *Leaf) Renew() error {
	return l.reload("renew the credentials of the link", false)
}

// openLink starts the link.
func (l *Leaf) openLink() error {
	l.linkDisabled.Store(false)
	err := l.reload("open the link", true)
	l.linkDisabled.Store(err != nil)
	return err
}

// reload applies the current configuration of the link if its credentials have changed, or always.
// purpose begins the error's text.
func (l *Leaf) reload(purpose string, always bool) error {
	remote, err := l.options.remote()
	if err != nil {
		return fmt.Errorf("read the credentials of the link: %w", err)
	}
	fingerprint := l.options.credentialsHash(remote)
	if fingerprint == l.fingerprint && !always {
		return nil
	}
	if err := l.server.Reload(l.serverOptions(remote)); err != nil {
		return fmt.Errorf("%s: %w", purpose, err)
	}
	l.fingerprint = fingerprint
	return nil
}

// credentialsHash returns a fingerprint of the credentials that the server does not read again by
// itself.
func (o Options) credentialsHash(remote *natsd.RemoteLeafOpts) string {
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
