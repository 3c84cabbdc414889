package conn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"mqtt-nats-bridge/internal/tlsfile"
)

// TLSFiles lists the PEM files of a TLS connection. With the zero value, nats.go uses TLS if the
// server requires it, and trusts the system's roots. The files are read again on each connect.
type TLSFiles struct {
	tlsfile.Files
	// ServerName is the name that the server's certificate must contain. Default: the URL's host.
	ServerName string
	// HandshakeFirst starts TLS before the server's INFO (handshake_first of nats-server).
	HandshakeFirst bool
}

// Config reads the files.
func (f TLSFiles) Config() (*tls.Config, error) { return f.Files.Config(f.ServerName) }

// LocalFileError means that a file with credentials or certificates cannot be used.
type LocalFileError struct{ Err error }

// Error implements error.
func (e *LocalFileError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LocalFileError) Unwrap() error { return e.Err }

// Identity is what one connection attempt presents and trusts. Its files are read when the attempt
// begins.
type Identity struct {
	method         string // the kind of credentials; empty: none
	User, Password string
	Token          string
	JWT, Seed      string
	PublicKey      string // of an nkey without a JWT
	roots          *x509.CertPool
	certificate    *tls.Certificate
}

// credentials describes one kind of credentials in the options: its name in errors, whether it is
// set, and how to read it.
type credentials struct {
	method string
	isSet  bool
	read   func(*Identity) error
}

// credentials lists the kinds of credentials that are set.
func (o Options) credentials() []credentials {
	all := []credentials{
		{"credentials in the url", o.URLUser() != nil, func(*Identity) error { return nil }}, // nats.go reads them
		{"user and password", o.User != "" || o.Password != "" || o.PasswordFile != "", o.readPassword},
		{"token", o.Token != "" || o.TokenFile != "", o.readToken},
		{"creds", o.Creds != "", o.readCreds},
		{"nkey", o.NKeySeedFile != "", o.readNKey},
		{"user jwt", o.userJWT != "" || o.userSeed != "", o.readUserJWT},
	}
	return slices.DeleteFunc(all, func(c credentials) bool { return !c.isSet })
}

// URLUser returns the first credentials that a URL contains; nil if there are none.
func (o Options) URLUser() *url.Userinfo {
	for _, raw := range SplitURLs(o.URL) {
		if u, err := url.Parse(raw); err == nil && u.User != nil {
			return u.User
		}
	}
	return nil
}

// Identity reads the credentials and the certificates, including those of a CLI context. o must be
// resolved. An error names the unusable file and contains no secret.
func (o Options) Identity() (*Identity, error) {
	if o.unresolved != nil {
		now, err := o.unresolved.withContext()
		if err != nil {
			return nil, &LocalFileError{err}
		}
		now.URL = o.URL
		o = now
	}
	id := &Identity{}
	switch set := o.credentials(); len(set) {
	case 0:
	case 1:
		id.method = set[0].method
		if err := set[0].read(id); err != nil {
			return nil, err
		}
	default:
		var methods []string
		for _, c := range set {
			methods = append(methods, c.method)
		}
		return nil, fmt.Errorf("choose nats credentials: %s are all set, exactly one must be set", strings.Join(methods, ", "))
	}
	if o.TLS != nil {
		return id, nil
	}
	var err error
	if id.roots, err = o.TLSFiles.Roots(); err == nil {
		id.certificate, err = o.TLSFiles.Certificate()
	}
	if err != nil {
		return nil, &LocalFileError{fmt.Errorf("nats tls: %w", err)}
	}
	return id, nil
}

func (o Options) readPassword(id *Identity) (err error) {
	if o.User == "" {
		return errors.New("choose nats credentials: a password is set without a user")
	}
	id.User, id.Password = o.User, o.Password
	if o.PasswordFile != "" {
		id.Password, err = readSecret("password", o.PasswordFile)
	}
	return err
}

func (o Options) readToken(id *Identity) (err error) {
	id.Token = o.Token
	if o.TokenFile != "" {
		id.Token, err = readSecret("token", o.TokenFile)
	}
	return err
}

func (o Options) readCreds(id *Identity) error {
	content, err := readFile("creds", o.Creds)
	if err != nil {
		return err
	}
	defer clear(content)
	if id.JWT, err = nkeys.ParseDecoratedJWT(content); err != nil {
		return &LocalFileError{fmt.Errorf("read nats creds %s: %w", o.Creds, err)}
	}
	key, err := nkeys.ParseDecoratedNKey(content)
	if err != nil {
		return &LocalFileError{fmt.Errorf("read nats creds %s: %w", o.Creds, err)}
	}
	defer key.Wipe()
	seed, err := key.Seed()
	id.Seed = string(seed)
	return err
}

func (o Options) readNKey(id *Identity) error {
	content, err := readFile("nkey seed", o.NKeySeedFile)
	if err != nil {
		return err
	}
	defer clear(content)
	// If the content is not a seed, nkeys' error does not name the file.
	key, err := nkeys.ParseDecoratedNKey(content)
	if err != nil {
		return &LocalFileError{fmt.Errorf("read nats nkey seed %s: %w", o.NKeySeedFile, err)}
	}
	defer key.Wipe()
	if id.PublicKey, err = key.PublicKey(); err != nil {
		return &LocalFileError{fmt.Errorf("read nats nkey seed %s: %w", o.NKeySeedFile, err)}
	}
	seed, err := key.Seed()
	id.Seed = string(seed)
	return err
}

func (o Options) readUserJWT(id *Identity) error {
	if o.userJWT == "" || o.userSeed == "" {
		return errors.New("choose nats credentials: user_jwt and user_seed must be set together")
	}
	if _, err := nkeys.FromSeed([]byte(o.userSeed)); err != nil {
		return &LocalFileError{fmt.Errorf("read nats user seed: %w", err)}
	}
	id.JWT, id.Seed = o.userJWT, o.userSeed
	return nil
}

// readSecret reads a secret of one line. A trailing newline is dropped.
func readSecret(what, name string) (string, error) {
	content, err := readFile(what, name)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(content), "\r\n")
	if text == "" {
		return "", &LocalFileError{fmt.Errorf("read nats %s %s: the file is empty", what, name)}
	}
	return text, nil
}

func readFile(what, name string) ([]byte, error) {
	content, err := tlsfile.Read(name)
	if err != nil {
		return nil, &LocalFileError{fmt.Errorf("read nats %s: %w", what, err)}
	}
	return content, nil
}

// Sign answers the server's challenge.
func (id *Identity) Sign(nonce []byte) ([]byte, error) {
	key, err := nkeys.FromSeed([]byte(id.Seed))
	if err != nil {
		return nil, fmt.Errorf("read nats user seed: %w", err)
	}
	defer key.Wipe()
	return key.Sign(nonce)
}

// authOptions make nats.go use the identity of each attempt.
func (w *watcher) authOptions() []nats.Option {
	id := w.identity.Load()
	sign := func(nonce []byte) ([]byte, error) { return w.identity.Load().Sign(nonce) }
	switch {
	case id.PublicKey != "":
		return []nats.Option{nats.Nkey(id.PublicKey, sign)}
	case id.JWT != "":
		return []nats.Option{nats.UserJWT(func() (string, error) { return w.identity.Load().JWT, nil }, sign)}
	case id.User != "":
		return []nats.Option{nats.UserInfoHandler(func() (string, string) {
			id := w.identity.Load()
			return id.User, id.Password
		})}
	case id.Token != "":
		return []nats.Option{nats.TokenHandler(func() string { return w.identity.Load().Token })}
	}
	return nil
}

func (w *watcher) tlsOptions() []nats.Option {
	o := w.options
	config := o.TLS
	if config == nil {
		if o.TLSFiles == (TLSFiles{}) {
			return nil
		}
		config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.TLSFiles.ServerName}
		if o.TLSFiles.Cert != "" {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return w.identity.Load().certificate, nil
			}
		}
	}
	opts := []nats.Option{nats.Secure(config)}
	if o.TLS == nil {
		opts = append(opts, func(n *nats.Options) error {
			n.RootCAsCB = func() (*x509.CertPool, error) { return w.identity.Load().roots, nil }
			return nil
		})
	}
	if o.TLSFiles.HandshakeFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	return opts
}
