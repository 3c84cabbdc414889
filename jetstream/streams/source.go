package streams

import (
	"slices"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// SourceSpec is a stream of a leaf node from which a hub's stream sources messages. The hub's
// stream may have other sources, of other sites; these are not changed.
type SourceSpec struct {
	Stream string // name of the stream on the leaf node
	Domain string // the leaf node's JetStream domain
}

// API returns the prefix of the subjects of the leaf node's JetStream API.
func (s SourceSpec) API() string { return "$JS." + s.Domain + ".API" }

func (s SourceSpec) String() string { return s.Stream + " of domain " + s.Domain }

// config returns the source as configured on the hub. It starts at sequence 1, even if that message
// was deleted. Without a start sequence, a stream that already contains messages starts at the time
// of its last one, and messages that the leaf node stored before that would never arrive
// (nats-server 2.15, trySetupSourceConsumer).
func (s SourceSpec) config() *natsjs.StreamSource {
	return &natsjs.StreamSource{
		Name: s.Stream, OptStartSeq: 1, External: &natsjs.ExternalStream{APIPrefix: s.API()},
	}
}

func (s SourceSpec) same(source *natsjs.StreamSource) bool {
	return source.Name == s.Stream && sourceAPI(source) == s.API()
}

// isComplete reports whether a source omits nothing, neither at the beginning nor by a filter.
func isComplete(source *natsjs.StreamSource) bool {
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

// missing returns the wanted sources that a stream does not have, or has only in part.
func missing(want []SourceSpec, is []*natsjs.StreamSource) []SourceSpec {
	return slices.DeleteFunc(slices.Clone(want), func(s SourceSpec) bool {
		return slices.ContainsFunc(is, func(h *natsjs.StreamSource) bool { return s.same(h) && isComplete(h) })
	})
}

// addSources adds the missing sources and replaces partial ones.
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
		if !isComplete(s) {
			text += " (in part)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}
