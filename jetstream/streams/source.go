package streams

import (
	"slices"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// SourceSpec is a stream of a leaf node that a hub's stream sources messages from.
// A stream may have other sources, of other sites: they are not changed.
type SourceSpec struct {
	Stream string // its name there
	Domain string // the leaf node's JetStream domain
}

func (s SourceSpec) API() string { return "$JS." + s.Domain + ".API" }

func (s SourceSpec) String() string { return s.Stream + " of domain " + s.Domain }

// config is the source as configured at the hub. It begins at sequence 1, even if that is
// deleted: without a start sequence, a stream that contains messages already
// starts at the time of its last one, and messages that the leaf node stored before
// that would never arrive (nats-server 2.15, trySetupSourceConsumer).
func (s SourceSpec) config() *natsjs.StreamSource {
	return &natsjs.StreamSource{
		Name: s.Stream, OptStartSeq: 1, External: &natsjs.ExternalStream{APIPrefix: s.API()},
	}
}

func (s SourceSpec) same(source *natsjs.StreamSource) bool {
	return source.Name == s.Stream && sourceAPI(source) == s.API()
}

// takesAll reports whether a source omits nothing, at the beginning or by a filter.
func takesAll(source *natsjs.StreamSource) bool {
	return source.OptStartSeq == 1 && source.OptStartTime == nil && source.FilterSubject == "" && len(source.SubjectTransforms) == 0
}

func sourceAPI(source *natsjs.StreamSource) string {
	switch {
	case source.External != nil:
		return source.External.APIPrefix
	case source.Domain != "":
		return "$JS." + source.Domain + ".API"
	}
	return ""
}

// missing are the wanted sources that a stream lacks or has only in part.
func missing(want []SourceSpec, is []*natsjs.StreamSource) []SourceSpec {
	var missing []SourceSpec
	for _, s := range want {
		if !slices.ContainsFunc(is, func(h *natsjs.StreamSource) bool { return s.same(h) && takesAll(h) }) {
			missing = append(missing, s)
		}
	}
	return missing
}

// addSources adds the missing sources, replacing those that take only a part.
func addSources(is []*natsjs.StreamSource, want []SourceSpec) []*natsjs.StreamSource {
	for _, s := range missing(want, is) {
		is = slices.DeleteFunc(slices.Clone(is), s.same)
		is = append(is, s.config())
	}
	return is
}

func formatSources(sources []*natsjs.StreamSource) string {
	if len(sources) == 0 {
		return "none"
	}
	var all []string
	for _, s := range sources {
		text := s.Name
		if api := sourceAPI(s); api != "" {
			domain := strings.TrimSuffix(strings.TrimPrefix(api, "$JS."), ".API")
			text = SourceSpec{s.Name, domain}.String()
		}
		if !takesAll(s) {
			text += " (in part)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}
