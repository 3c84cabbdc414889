// Package mqttaccount turns the configured account for the MQTT broker into connect options, and a
// failure into advice, for every command that connects.
package mqttaccount

import (
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

// Options returns the connect options of m for a client id. Passwords and certificates in files are
// read at each connect.
func Options(m config.MQTT, clientID string) mqtt.Options {
	var servers []dial.Server
	for _, u := range m.URL.List() {
		servers = append(servers, Server(u))
	}
	return mqtt.Options{
		Servers:  servers,
		ClientID: clientID,
		Login:    func() (dial.Login, error) { return login(m) },
		Advice:   Advice,
	}
}

// Server returns the listener at a URL.
func Server(u config.BrokerURL) dial.Server {
	return dial.Server{Address: u.Address, TLS: u.Secure, WebSocket: u.WebSocket, Path: u.Path}
}

func login(m config.MQTT) (dial.Login, error) {
	password, err := m.CurrentPassword()
	if err != nil {
		return dial.Login{}, err
	}
	headers, err := m.CurrentHeaders()
	if err != nil {
		return dial.Login{}, err
	}
	conf, err := m.TLSConfig()
	return dial.Login{Username: m.Username, Password: password, TLS: conf, Header: headers}, err
}
