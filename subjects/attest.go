package subjects

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxIDBytes is the maximum length of a broker's message id. EMQX's have 32 bytes.
const MaxIDBytes = 64

// undefined is the text that EMQX 5.8.9 writes for a missing username (measured).
const undefined = "undefined"

// Attestation contains what the broker attests. Its slices alias the attested topic and are valid
// as long as the topic.
type Attestation struct {
	// Partition is the level that selects the lane. It is not empty.
	Partition []byte
	// ID is the broker's message id: 1 to MaxIDBytes printable ASCII bytes, the same on every
	// redelivery.
	ID []byte
	// CNHex is the CN of the publisher's certificate in hexadecimal, see [DecodeCN]. It may be
	// empty.
	CNHex []byte
	// Millis is when the broker received the message, in ms since the epoch. It is never negative.
	Millis int64
}

// Prefix is the beginning of attested topics:
//
//	bridge/v1/<partition>/<id>/<ms>/<cn hex>/<device topic>
//
// It is immutable and safe for concurrent use.
type Prefix struct {
	text string
	lead string // text and a slash
}

// ParsePrefix parses a prefix: literal, non-empty levels between slashes, without wildcards. It
// must not begin with $, which is reserved for the broker.
func ParsePrefix(text string) (*Prefix, error) {
	invalid := func(what string) (*Prefix, error) {
		return nil, fmt.Errorf("parse attested prefix %q: %s", text, what)
	}
	switch {
	case text == "":
		return nil, errors.New(`parse attested prefix: it is empty, write one such as "bridge/v1"`)
	case len(text) > MaxSubjectBytes:
		return nil, fmt.Errorf("parse attested prefix: it has %d bytes, the maximum is %d", len(text), MaxSubjectBytes)
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return invalid("a topic is UTF-8 without NUL")
	case text[0] == '$':
		return invalid("topics that begin with $ belong to the broker")
	case strings.ContainsAny(text, "+#"):
		return invalid(`"+" and "#" are a filter's wildcards, a prefix is literal`)
	case strings.ContainsAny(text, "{}"):
		return invalid("a prefix has no captures, it is literal")
	case strings.HasPrefix(text, "/"), strings.HasSuffix(text, "/"), strings.Contains(text, "//"):
		return invalid("it has an empty level: remove a slash")
	}
	return &Prefix{text: text, lead: text + "/"}, nil
}

// String returns the prefix as written, without a trailing slash.
func (p *Prefix) String() string { return p.text }

// Filter returns the MQTT filter for the attested topics of a pattern in one partition. "" and "+"
// select all partitions; otherwise the partition is one level without a wildcard.
func (p *Prefix) Filter(partition string, pattern *Pattern) string {
	if partition == "" {
		partition = "+"
	}
	return p.lead + partition + "/+/+/+/" + pattern.Filter()
}

// Partition returns the MQTT filter for all attested topics of one partition, whatever the device's
// topic.
func (p *Prefix) Partition(partition string) string { return p.lead + partition + "/#" }

// Cut splits an attested topic into the attestation and the device's topic, which is not empty. It
// fails with [ErrNotAttested], [ErrAttestationShort], [ErrPartition], [ErrBrokerID] or
// [ErrBrokerTime]. It does not validate the CN; [DecodeCN] does.
func (p *Prefix) Cut(topic []byte) (a Attestation, rest []byte, err error) {
	if len(topic) < len(p.lead) || string(topic[:len(p.lead)]) != p.lead {
		return Attestation{}, nil, ErrNotAttested
	}
	rest = topic[len(p.lead):]
	var levels [4][]byte
	for i := range levels {
		end := bytes.IndexByte(rest, '/')
		if end < 0 {
			return Attestation{}, nil, ErrAttestationShort
		}
		levels[i], rest = rest[:end], rest[end+1:]
	}
	if len(rest) == 0 {
		return Attestation{}, nil, ErrAttestationShort
	}
	if len(levels[0]) == 0 {
		return Attestation{}, nil, ErrPartition
	}
	if !validID(levels[1]) {
		return Attestation{}, nil, ErrBrokerID
	}
	ms, ok := parseMillis(levels[2])
	if !ok {
		return Attestation{}, nil, ErrBrokerTime
	}
	return Attestation{Partition: levels[0], ID: levels[1], CNHex: levels[3], Millis: ms}, rest, nil
}

// Append appends the attested topic as the broker's rule writes it. It is the inverse of
// [Prefix.Cut] and serves other implementations of the broker side.
func (p *Prefix) Append(dst []byte, a Attestation, topic []byte) []byte {
	dst = append(dst, p.lead...)
	dst = append(append(dst, a.Partition...), '/')
	dst = append(append(dst, a.ID...), '/')
	dst = append(strconv.AppendInt(dst, a.Millis, 10), '/')
	dst = append(append(dst, a.CNHex...), '/')
	return append(dst, topic...)
}

func validID(id []byte) bool {
	if len(id) == 0 || len(id) > MaxIDBytes {
		return false
	}
	for _, c := range id {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

func parseMillis(digits []byte) (ms int64, ok bool) {
	for _, c := range digits {
		d := int64(c) - '0'
		if d < 0 || d > 9 || ms > (math.MaxInt64-d)/10 {
			return 0, false
		}
		ms = ms*10 + d
	}
	return ms, len(digits) > 0
}

// DecodeCN appends the CN to dst and returns the extended buffer. Hexadecimal digits may be of
// either case. On [ErrNoCN] or [ErrCNHex] it returns dst unchanged. A CN may contain any bytes.
func DecodeCN(dst, cnHex []byte) ([]byte, error) {
	if len(cnHex) == 0 || string(cnHex) == undefined {
		return dst, ErrNoCN
	}
	out, err := hex.AppendDecode(dst, cnHex)
	if err != nil {
		return dst, ErrCNHex
	}
	if string(out[len(dst):]) == undefined {
		return dst, ErrNoCN
	}
	return out, nil
}

// AppendCN appends a CN as EMQX's bin2hexstr writes it, in upper case. It is the inverse of
// [DecodeCN].
func AppendCN(dst, cn []byte) []byte {
	for _, c := range cn {
		dst = append(dst, upperHex[c>>4], upperHex[c&0xF])
	}
	return dst
}
