package config

import (
	"crypto/tls"
	"strings"

	"mqtt-nats-bridge/internal/schema"
)

// APIURL is the base URL of an HTTP API, without a path.
type APIURL struct{ baseURL }

var apiRules = urlRules{
	example: "write it like http://emqx:18083, or https://emqx:18084 for TLS",
	schemes: []string{"http", "https"},
	instead: "give mqtt.emqx.key and mqtt.emqx.secret_file instead",
}

// Parse reads the value of a key.
func (a *APIURL) Parse(text string) error { return a.parse(text, &apiRules) }

// CurrentSecret returns the secret of the API key. A secret from a file is read again.
func (e EMQX) CurrentSecret() (string, error) {
	return schema.Current("mqtt.emqx.secret_file", e.SecretFile, e.Secret)
}

// ClientTLS returns the TLS configuration for the API. It reads the CA file on each call.
func (e EMQX) ClientTLS() (*tls.Config, error) { return TLS{CA: e.CA}.Client() }

// emqxRules checks that the keys of the API are either complete or absent.
func (l *rules) emqxRules() {
	const api, key, secret, file, ca = "mqtt.emqx.api", "mqtt.emqx.key", "mqtt.emqx.secret", "mqtt.emqx.secret_file", "mqtt.emqx.ca"
	e := &l.c.MQTT.EMQX
	if !l.Valid(api, key, secret, file, ca) {
		return
	}
	if e.API.IsZero() {
		if e.Key != "" || !e.Secret.IsZero() || e.CA != "" {
			l.Conflict("is given without mqtt.emqx.api; give the URL of EMQX's API too, or remove this key", key, file, secret, ca)
		}
		return
	}
	switch {
	case e.Key == "" || e.Secret.IsZero():
		l.Conflict("is given without an API key; give mqtt.emqx.key and mqtt.emqx.secret_file too", api)
	case strings.Contains(e.Key, ":"): // in HTTP basic authentication the user name ends at the first colon
		l.Conflict(schema.Quote(e.Key)+" contains a colon; write only the key, and put the secret in mqtt.emqx.secret_file", key)
	}
	if e.CA != "" {
		if !strings.HasPrefix(e.API.String(), "https://") {
			l.Conflict("contradicts mqtt.emqx.api, which is plain text; write https:// there, or remove this key", ca)
			return
		}
		l.certificates("mqtt.emqx", TLS{CA: e.CA})
	}
}
