package jetstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// TLSFiles names the PEM files of a TLS connection. The zero value leaves TLS to
// the server: nats.go upgrades where the server asks for it and then trusts the
// system's roots.
type TLSFiles struct {
	CA string
	// Cert and Key are read again on every handshake, so that a renewed
	// certificate needs no restart. Both or neither.
	Cert, Key string
	// ServerName is what the server's certificate must say; default: the URL's
	// host.
	ServerName string
	// HandshakeFirst starts TLS before the server's INFO (nats-server's
	// handshake_first).
	HandshakeFirst bool
}

func (f TLSFiles) empty() bool { return f == TLSFiles{} }

// Config reads the files. The error names the file at fault.
func (f TLSFiles) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read nats tls ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read nats tls ca: %s holds no PEM certificate", f.CA)
		}
	}
	switch {
	case f.Cert == "" && f.Key == "":
		return config, nil
	case f.Key == "":
		return nil, fmt.Errorf("read nats tls certificate: %s is named without its key", f.Cert)
	case f.Cert == "":
		return nil, fmt.Errorf("read nats tls key: %s is named without its certificate", f.Key)
	}
	if _, err := f.pair(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	return config, nil
}

func (f TLSFiles) pair() (*tls.Certificate, error) {
	cert, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("read nats tls certificate: %w", err)
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, fmt.Errorf("read nats tls key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read nats tls certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	return &pair, nil
}

func (o ConnectOptions) tlsOptions() ([]nats.Option, error) {
	config := o.TLS
	if config == nil && !o.TLSFiles.empty() {
		var err error
		if config, err = o.TLSFiles.Config(); err != nil {
			return nil, err
		}
	}
	if config == nil {
		return nil, nil
	}
	opts := []nats.Option{nats.Secure(config)}
	if o.TLSFiles.HandshakeFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	return opts, nil
}

// methods lists which kinds of credentials the options hold, in words for an
// error.
func (o ConnectOptions) methods() []string {
	var found []string
	add := func(is bool, name string) {
		if is {
			found = append(found, name)
		}
	}
	add(o.User != "" || o.Password != "", "user and password")
	add(o.Token != "", "token")
	add(o.Creds != "", "creds")
	add(o.NKeySeedFile != "", "nkey")
	add(o.userJWT != "" || o.userSeed != "", "user jwt")
	return found
}

func (o ConnectOptions) urlHasCredentials() bool {
	for _, raw := range splitURLs(o.URL) {
		if u, err := url.Parse(raw); err == nil && u.User != nil {
			return true
		}
	}
	return false
}

func (o ConnectOptions) credentials() ([]nats.Option, error) {
	methods := o.methods()
	if o.urlHasCredentials() {
		methods = append([]string{"credentials in the url"}, methods...)
	}
	if len(methods) > 1 {
		return nil, fmt.Errorf("choose nats credentials: %s are all set, exactly one must be", strings.Join(methods, ", "))
	}
	switch {
	case o.User != "":
		return []nats.Option{nats.UserInfo(o.User, o.Password)}, nil
	case o.Password != "":
		return nil, errors.New("choose nats credentials: a password is set without a user")
	case o.Token != "":
		return []nats.Option{nats.Token(o.Token)}, nil
	case o.Creds != "":
		if err := checkCreds(o.Creds); err != nil {
			return nil, err
		}
		return []nats.Option{nats.UserCredentials(o.Creds)}, nil
	case o.NKeySeedFile != "":
		// Checked first: nats.go's error for content that is no seed does not
		// name the file.
		option, err := nats.NkeyOptionFromSeed(o.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("read nats nkey seed %s: %w", o.NKeySeedFile, err)
		}
		return []nats.Option{option}, nil
	case o.userJWT != "" && o.userSeed != "":
		if _, err := nkeys.FromSeed([]byte(o.userSeed)); err != nil {
			return nil, fmt.Errorf("read nats user seed: %w", err)
		}
		return []nats.Option{nats.UserJWTAndSeed(o.userJWT, o.userSeed)}, nil
	case o.userJWT != "" || o.userSeed != "":
		return nil, errors.New("choose nats credentials: user_jwt and user_seed belong together")
	}
	return nil, nil
}

// checkCreds finds at start what nats.UserCredentials, which reads the file on
// connect, would only find later.
func checkCreds(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read nats creds: %w", err)
	}
	if _, err := nkeys.ParseDecoratedJWT(content); err != nil {
		return fmt.Errorf("read nats creds %s: %w", path, err)
	}
	seed, err := nkeys.ParseDecoratedNKey(content)
	if err != nil {
		return fmt.Errorf("read nats creds %s: %w", path, err)
	}
	seed.Wipe()
	return nil
}
