package drill

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/wire"
)

// Identity is the identity of a device.
type Identity struct {
	CN  string // tenant/device
	TLS *tls.Config
}

// crew contains the identities of a drill.
type crew struct {
	fleet []Identity
	burst Identity
	// other is shared by the other misbehaving devices, which use several connections.
	other Identity
}

// identities returns the identities that the options require.
func identities(o *Options) (*crew, error) {
	if o.Certs != "" {
		return fromDirectory(o)
	}
	base, authority, err := trust(o)
	if err != nil {
		return nil, err
	}
	named := func(device string) (Identity, error) {
		id := Identity{CN: o.Tenant + "/" + device, TLS: base}
		if authority != nil {
			id.TLS, err = authority.ClientConfig(id.CN)
		}
		return id, err
	}
	c := &crew{}
	for i := range o.Devices {
		id, err := named(fmt.Sprintf("d-%d", i+1))
		if err != nil {
			return nil, err
		}
		c.fleet = append(c.fleet, id)
	}
	if c.burst, err = named("burst"); err != nil {
		return nil, err
	}
	c.other, err = named("other")
	return c, err
}

// trust returns the TLS configuration that all devices share, or nil if the broker does not use TLS.
// The authority is nil if the drill signs no certificates.
func trust(o *Options) (*tls.Config, *pki.Authority, error) {
	if !o.Broker.Secure {
		return nil, nil, nil
	}
	if o.CAKey != "" {
		authority, err := pki.Load(o.CACert, o.CAKey)
		return nil, authority, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CACert != "" {
		pool, err := pki.LoadPool(o.CACert)
		if err != nil {
			return nil, nil, err
		}
		config.RootCAs = pool
	}
	return config, nil, nil
}

// fromDirectory reads the identities from certificate files. It uses the CN of each certificate, not
// the file name, because a _ in a file name may represent a / or itself.
func fromDirectory(o *Options) (*crew, error) {
	base, _, err := trust(o)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(o.Certs, "*.pem"))
	if err != nil {
		return nil, err
	}
	var all []Identity
	for _, file := range files {
		pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".pem")+".key")
		if err != nil {
			return nil, fmt.Errorf("load device certificate %s: %w", file, err)
		}
		cn := pair.Leaf.Subject.CommonName
		if tenant, device, ok := strings.Cut(cn, "/"); !ok || tenant == "" || device == "" || strings.ContainsAny(cn, "+#") || strings.Contains(device, "/") {
			return nil, fmt.Errorf("load device certificate %s: its CN %q is not tenant/device", file, cn)
		}
		config := base.Clone()
		config.Certificates = []tls.Certificate{pair}
		all = append(all, Identity{CN: cn, TLS: config})
	}
	slices.SortFunc(all, func(a, b Identity) int { return strings.Compare(a.CN, b.CN) })
	c := &crew{}
	pop := func(needed bool) (last Identity) {
		if needed && len(all) > 0 {
			last, all = all[len(all)-1], all[:len(all)-1]
		}
		return last
	}
	c.burst = pop(o.Burst > 0)
	c.other = pop(o.Hijack || o.Will || o.Impostor)
	if len(all) == 0 {
		return nil, errors.New("load device certificates: too few in " + o.Certs + ": --burst needs one, the other misbehaving devices share one, and the fleet needs at least one")
	}
	c.fleet = all[:min(len(all), o.Devices)]
	o.Devices = len(c.fleet)
	return c, o.Check() // with fewer devices, the rate per device is higher
}

// device returns the options of a device, without those of its messages.
func (o *Options) device(id Identity, clientID string) fleet.Options {
	return fleet.Options{
		Address: o.Broker.Address, TLS: id.TLS, Window: o.Window,
		Connect: wire.Connect{
			ClientID: clientID, Username: o.Username, Password: o.Password, KeepAlive: o.KeepAlive,
		},
	}
}
