package conn

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cliContext contains the supported fields of a `nats context` file (field names: natscli, jsm.go
// natscontext).
type cliContext struct {
	URL         string `json:"url"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Token       string `json:"token"`
	Creds       string `json:"creds"`
	NKey        string `json:"nkey"`
	UserJWT     string `json:"user_jwt"`
	UserSeed    string `json:"user_seed"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
	CA          string `json:"ca"`
	TLSFirst    bool   `json:"tls_first"`
	InboxPrefix string `json:"inbox_prefix"`
	Domain      string `json:"jetstream_domain"`
	APIPrefix   string `json:"jetstream_api_prefix"`

	// Fields that only the CLI supports. If one is set, it is an error: without it the bridge would
	// connect to another server or as another user.
	NSC          string `json:"nsc"`
	SocksProxy   string `json:"socks_proxy"`
	WinCertStore string `json:"windows_cert_store"`
}

func (o Options) withContext() (Options, error) {
	path, err := o.contextPath()
	if err != nil {
		return o, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return o, fmt.Errorf("read nats context %q: %w", o.Context, err)
	}
	var c cliContext
	if err := json.Unmarshal(content, &c); err != nil {
		return o, fmt.Errorf("read nats context %q from %s: %w", o.Context, path, err)
	}
	if err := c.resolve(); err != nil {
		return o, fmt.Errorf("read nats context %q from %s: %w", o.Context, path, err)
	}

	o.URL = cmp.Or(o.URL, c.URL)
	o.InboxPrefix = cmp.Or(o.InboxPrefix, c.InboxPrefix)
	if o.Domain == "" && o.APIPrefix == "" {
		o.Domain, o.APIPrefix = c.Domain, c.APIPrefix
	}
	if len(o.credentials()) == 0 {
		o.User, o.Password, o.Token = c.User, c.Password, c.Token
		o.Creds, o.NKeySeedFile = c.Creds, c.NKey
		o.userJWT, o.userSeed = c.UserJWT, c.UserSeed
	}
	if o.TLS == nil {
		o.TLSFiles.CA = cmp.Or(o.TLSFiles.CA, c.CA)
		if o.TLSFiles.Cert == "" && o.TLSFiles.Key == "" {
			o.TLSFiles.Cert, o.TLSFiles.Key = c.Cert, c.Key
		}
		o.TLSFiles.HandshakeFirst = o.TLSFiles.HandshakeFirst || c.TLSFirst
	}
	o.Context = "" // resolved; a second Resolve changes nothing
	return o, nil
}

// contextPath returns the path at which natscli stores a context.
func (o Options) contextPath() (string, error) {
	if strings.ContainsAny(o.Context, `/\`) || strings.Contains(o.Context, "..") {
		return "", fmt.Errorf("read nats context %q: expected a name, not a path", o.Context)
	}
	dir := o.ContextDir
	if dir == "" {
		root := os.Getenv("XDG_CONFIG_HOME")
		if root == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("find nats context %q: %w", o.Context, err)
			}
			root = filepath.Join(home, ".config")
		}
		dir = filepath.Join(root, "nats", "context")
	}
	return filepath.Join(dir, o.Context+".json"), nil
}

// resolve expands paths and references as the CLI does: ~ and $VAR in paths, file:// everywhere,
// env:// in secrets.
func (c *cliContext) resolve() error {
	for field, value := range map[string]string{"nsc": c.NSC, "socks_proxy": c.SocksProxy, "windows_cert_store": c.WinCertStore} {
		if value != "" {
			return fmt.Errorf("%s is set, which the bridge does not support", field)
		}
	}
	for _, r := range []struct {
		field   string
		value   *string
		resolve func(string) (string, error)
	}{
		{"creds", &c.Creds, expandPath}, {"nkey", &c.NKey, expandPath},
		{"cert", &c.Cert, expandPath}, {"key", &c.Key, expandPath}, {"ca", &c.CA, expandPath},
		{"password", &c.Password, resolveSecret}, {"token", &c.Token, resolveSecret},
		{"user_jwt", &c.UserJWT, resolveSecret}, {"user_seed", &c.UserSeed, resolveSecret},
	} {
		resolved, err := r.resolve(*r.value)
		if err != nil {
			return fmt.Errorf("%s: %w", r.field, err)
		}
		*r.value = resolved
	}
	return nil
}

func expandPath(ref string) (string, error) {
	path := strings.TrimPrefix(ref, "file://")
	if scheme, _, found := strings.Cut(path, "://"); found {
		return "", fmt.Errorf("a reference of kind %s:// is not supported, use a file", scheme)
	}
	path = os.ExpandEnv(path)
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("expand ~: %w", err)
		}
		path = filepath.Join(home, path[1:])
	}
	return path, nil
}

func resolveSecret(ref string) (string, error) {
	switch scheme, rest, _ := strings.Cut(ref, "://"); scheme {
	case "file":
		path, err := expandPath(rest)
		if err != nil {
			return "", err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	case "env":
		value := os.Getenv(rest)
		if value == "" {
			return "", fmt.Errorf("the environment variable %s is not set", rest)
		}
		return value, nil
	case "op", "nsc":
		if rest != "" {
			return "", fmt.Errorf("a reference of kind %s:// is not supported", scheme)
		}
	}
	return ref, nil
}
