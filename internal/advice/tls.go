package advice

import (
	"errors"
	"strings"

	"mqtt-nats-bridge/internal/tlsfile"
)

// TLS returns the advice about a cause for the section nats or mqtt of the configuration. It is empty
// if there is no cause.
func TLS(cause tlsfile.Cause, section string) string {
	peer := "server"
	if section == "mqtt" {
		peer = "broker"
	}
	return strings.NewReplacer("SECTION", section, "PEER", peer).Replace(tlsAdvice[cause])
}

var tlsAdvice = map[tlsfile.Cause]string{
	tlsfile.Authority:         "name the CA that issued the PEER's certificate in SECTION.tls.ca",
	tlsfile.Chain:             "if the issuer is an intermediate CA, append its certificate to the PEER's certificate file; if it is a root CA, name it in SECTION.tls.ca",
	tlsfile.NoSAN:             "issue the PEER a certificate with its host as a subject alternative name; SECTION.tls.server_name does not help",
	tlsfile.Hostname:          "use a host in SECTION.url or SECTION.tls.server_name that the certificate covers, or issue the PEER a certificate for this host",
	tlsfile.Dates:             "renew the PEER's certificate, or correct the clock of this machine",
	tlsfile.Usage:             "issue the PEER a certificate with the extended key usage serverAuth",
	tlsfile.ClientCertificate: "name a client certificate in SECTION.tls.cert and SECTION.tls.key whose CA the PEER trusts for its clients",
	tlsfile.Version:           "enable TLS 1.2 or later on the PEER",
	tlsfile.ALPN:              "compare SECTION.tls.alpn with the protocols that the PEER's listener accepts",
	tlsfile.Handshake:         "read the PEER's log for the reason, and compare its TLS settings with SECTION.tls",
}

// File returns the advice about a TLS file of the section that cannot be used.
func File(err error, section string) string {
	switch {
	case errors.Is(err, tlsfile.ErrEncryptedKey):
		return "name a file that contains the key's passphrase in " + section + ".tls.passphrase_file"
	case errors.Is(err, tlsfile.ErrPassphrase):
		return "correct the passphrase in " + section + ".tls.passphrase_file"
	}
	return "make the file readable and correct; it is read again at each connect"
}
