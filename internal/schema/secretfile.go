package schema

import (
	"bytes"
	"fmt"
	"strings"
)

// files opens the files that the configuration names. It reads secrets into their fields and checks
// that all other files are readable.
func (l *Loader) files() {
	l.root.Walk(func(leaf *Leaf) {
		if leaf.Tag.Get("file") == "" || leaf.Value.String() == "" || l.invalid[leaf.Path] {
			return
		}
		secret, isSecret := l.leaves[strings.TrimSuffix(leaf.Path, "_file")]
		if isSecret && strings.HasSuffix(leaf.Path, "_file") {
			l.secretFile(secret, leaf)
			return
		}
		if _, err := readFile(leaf.Value.String(), MaxFile); err != nil {
			l.reject(leaf.Path, l.p.origin(leaf.Path), "the file "+fileName(leaf)+" "+err.Error())
		}
	})
}

// secretFile reads a secret from its file. If one source gives both the secret and the file, that is
// an error. If two sources do, the one with higher precedence wins.
func (l *Loader) secretFile(secret, file *Leaf) {
	from := l.p.origins[file.Path]
	if !secret.Value.Interface().(Secret).IsZero() {
		direct := l.p.origins[secret.Path]
		switch {
		case direct.layer == from.layer:
			l.reject(file.Path, from, "contradicts "+secret.Path+"; give one of the two")
			return
		case direct.layer > from.layer:
			file.Value.SetString("")
			delete(l.p.origins, file.Path)
			return
		}
	}
	data, err := readFile(file.Value.String(), MaxFile)
	if err != nil {
		l.reject(file.Path, from, "the file "+fileName(file)+" "+err.Error())
		return
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		l.reject(file.Path, from, "the file "+fileName(file)+" is empty; write the secret into it")
		return
	}
	l.set(secret, string(data), from)
}

// ReadSecret reads a secret from a file and drops a trailing newline. The error quotes no part of the
// content.
func ReadSecret(file string) (Secret, error) {
	data, err := readFile(file, MaxFile)
	if err != nil {
		return Secret{}, fmt.Errorf("the file %s %w", Quote(file), err)
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		return Secret{}, fmt.Errorf("the file %s is empty; write the secret into it", Quote(file))
	}
	var s Secret
	return s, s.Parse(string(data))
}

// Current returns the secret. A secret from a file is read again.
func Current(key, file string, secret Secret) (string, error) {
	if file == "" {
		return secret.Reveal(), nil
	}
	secret, err := ReadSecret(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	return secret.Reveal(), nil
}

// fileName quotes a file's name. It hides a name that looks like the content of the file: a seed, a
// PEM block or a JWT.
func fileName(leaf *Leaf) string {
	name := leaf.Value.String()
	seed := len(name) >= 56 && strings.HasPrefix(name, "S") && !strings.ContainsAny(name, "/.")
	if seed || strings.HasPrefix(name, "-----BEGIN") || strings.HasPrefix(name, "eyJ") {
		return "(not shown, it looks like the secret itself; name a file that contains it)"
	}
	return Quote(name)
}
