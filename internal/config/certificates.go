package config

import (
	"errors"

	"mqtt-nats-bridge/internal/tlsfile"
)

// certificates checks the contents of the files: CA certificates, client certificate and key.
func (l *rules) certificates(path string, t TLS) {
	ca, cert, key, passphrase := path+".ca", path+".cert", path+".key", path+".passphrase_file"
	if t.CA != "" && l.Valid(ca) {
		if _, err := t.Files().Roots(); err != nil {
			l.Reject(ca, err.Error())
		}
	}
	switch {
	case !l.Valid(cert, key, passphrase):
	case t.Cert != "" && t.Key == "":
		l.Reject(cert, "is given without its key; give "+key+" too")
	case t.Cert == "" && t.Key != "":
		l.Reject(key, "is given without its certificate; give "+cert+" too")
	case t.Passphrase != "" && t.Key == "":
		l.Reject(passphrase, "is given without a key; give "+cert+" and "+key+" too")
	case t.Cert != "":
		l.keyPair(path, t)
	}
}

func (l *rules) keyPair(path string, t TLS) {
	cert, key, passphrase := path+".cert", path+".key", path+".passphrase_file"
	switch _, err := t.Files().Certificate(); {
	case err == nil:
	case errors.Is(err, tlsfile.ErrEncryptedKey):
		l.Reject(key, err.Error()+"; name a file that contains the passphrase in "+passphrase)
	case errors.Is(err, tlsfile.ErrPassphrase):
		l.Reject(passphrase, err.Error())
	default:
		l.Reject(cert, err.Error())
	}
}
