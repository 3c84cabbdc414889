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
		if _, err := readNamed(leaf.Value.String()); err != nil {
			l.reject(leaf.Path, l.p.origin(leaf.Path), err.Error())
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
	text, err := ReadSecret(file.Value.String())
	if err != nil {
		l.reject(file.Path, from, err.Error())
		return
	}
	l.set(secret, text.Reveal(), from)
}

// ReadSecret reads a secret from a file and drops a trailing newline. The error quotes no part of the
// content.
func ReadSecret(file string) (Secret, error) {
	data, err := readNamed(file)
	if err != nil {
		return Secret{}, err
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		return Secret{}, fmt.Errorf("the file %s is empty; write the secret into it", fileName(file))
	}
	return NewSecret(string(data)), nil
}

// readNamed works like readFile, but its error names the file.
func readNamed(file string) ([]byte, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("the file %s %w", fileName(file), err)
	}
	return data, nil
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
func fileName(name string) string {
	seed := len(name) >= 56 && strings.HasPrefix(name, "S") && !strings.ContainsAny(name, "/.")
	if seed || strings.HasPrefix(name, "-----BEGIN") || strings.HasPrefix(name, "eyJ") {
		return "(not shown, it looks like the secret itself; name a file that contains it)"
	}
	return Quote(name)
}
