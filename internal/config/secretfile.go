package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"mqtt-nats-bridge/internal/tlsfile"
)

// files opens what the configuration names: secrets are read into their
// fields, everything else is seen to be readable.
func (l *loader) files() {
	l.root.walk(func(leaf *leaf) {
		if leaf.tag.Get("file") == "" || leaf.value.String() == "" || l.bad[leaf.path] {
			return
		}
		secret, isSecret := l.leaves[strings.TrimSuffix(leaf.path, "_file")]
		if isSecret && strings.HasSuffix(leaf.path, "_file") {
			l.secretFile(secret, leaf)
			return
		}
		if _, err := readFile(leaf.value.String(), maxPEM); err != nil {
			l.reject(leaf.path, l.p.origin(leaf.path), "the file "+fileName(leaf)+" "+err.Error())
		}
	})
}

// secretFile reads a secret from its file. Given both in one source, nobody can
// tell which was meant; from two sources, the stronger one counts.
func (l *loader) secretFile(secret, file *leaf) {
	from := l.p.origins[file.path]
	if !secret.value.Interface().(Secret).IsZero() {
		direct := l.p.origins[secret.path]
		switch {
		case direct.layer == from.layer:
			l.reject(file.path, from, "contradicts "+secret.path+"; give one of the two")
			return
		case direct.layer > from.layer:
			file.value.SetString("")
			delete(l.p.origins, file.path)
			return
		}
	}
	data, err := readFile(file.value.String(), maxPEM)
	if err != nil {
		l.reject(file.path, from, "the file "+fileName(file)+" "+err.Error())
		return
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		l.reject(file.path, from, "the file "+fileName(file)+" is empty; write the secret into it")
		return
	}
	l.set(secret, string(data), from)
}

// ReadSecret reads a secret from a file as it is now; a trailing newline is dropped. The error
// quotes nothing of the content.
func ReadSecret(file string) (Secret, error) {
	data, err := readFile(file, maxPEM)
	if err != nil {
		return Secret{}, fmt.Errorf("the file %s %w", quote(file), err)
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		return Secret{}, fmt.Errorf("the file %s is empty; write the secret into it", quote(file))
	}
	var s Secret
	return s, s.parse(string(data))
}

// current returns the secret, read again where it comes from a file.
func current(key, file string, secret Secret) (string, error) {
	if file == "" {
		return secret.Reveal(), nil
	}
	secret, err := ReadSecret(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	return secret.Reveal(), nil
}

// certificates checks that the files contain what they should.
func (l *loader) certificates(path string, t TLS) {
	ca, cert, key, passphrase := path+".ca", path+".cert", path+".key", path+".passphrase_file"
	if t.CA != "" && l.sound(ca) {
		if _, err := t.Files().Roots(); err != nil {
			l.reject(ca, l.p.origin(ca), err.Error())
		}
	}
	switch {
	case !l.sound(cert, key, passphrase):
	case t.Cert != "" && t.Key == "":
		l.reject(cert, l.p.origin(cert), "is given without its key; give "+key+" too")
	case t.Cert == "" && t.Key != "":
		l.reject(key, l.p.origin(key), "is given without its certificate; give "+cert+" too")
	case t.Passphrase != "" && t.Key == "":
		l.reject(passphrase, l.p.origin(passphrase), "is given without a key; give "+cert+" and "+key+" too")
	case t.Cert != "":
		l.keyPair(path, t)
	}
}

func (l *loader) keyPair(path string, t TLS) {
	cert, key, passphrase := path+".cert", path+".key", path+".passphrase_file"
	switch _, err := t.Files().Certificate(); {
	case err == nil:
	case errors.Is(err, tlsfile.ErrEncryptedKey):
		l.reject(key, l.p.origin(key), err.Error()+"; name a file that holds it in "+passphrase)
	case errors.Is(err, tlsfile.ErrPassphrase):
		l.reject(passphrase, l.p.origin(passphrase), err.Error())
	default:
		l.reject(cert, l.p.origin(cert), err.Error())
	}
}

// fileName quotes a file's name, unless it looks like what belongs into the
// file: a seed, a PEM block, a JWT.
func fileName(leaf *leaf) string {
	name := leaf.value.String()
	seed := len(name) >= 56 && strings.HasPrefix(name, "S") && !strings.ContainsAny(name, "/.")
	if seed || strings.HasPrefix(name, "-----BEGIN") || strings.HasPrefix(name, "eyJ") {
		return "(not shown, it looks like the secret itself; name a file that holds it)"
	}
	return quote(name)
}
