package streams

import (
	"slices"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// SourceSpec is a stream of a leaf node that a hub's stream takes messages from.
// A stream may have other sources, of other sites: they are left alone.
type SourceSpec struct {
	Stream string // its name there
	Domain string // the leaf node's JetStream domain
}

func (s SourceSpec) API() string { return "$JS." + s.Domain + ".API" }

func (s SourceSpec) String() string { return s.Stream + " of domain " + s.Domain }

// config is the source as the hub has it. It begins at sequence 1, though that is
// no longer there: without a beginning, a stream that holds messages already
// starts at the time of its last one, and what the leaf node has stored before
// that would never come (nats-server 2.15, trySetupSourceConsumer).
func (s SourceSpec) config() *natsjs.StreamSource {
	return &natsjs.StreamSource{
		Name: s.Stream, OptStartSeq: 1, External: &natsjs.ExternalStream{APIPrefix: s.API()},
	}
}

func (s SourceSpec) same(source *natsjs.StreamSource) bool {
	return source.Name == s.Stream && sourceAPI(source) == s.API()
}

// takesAll: nothing is left out at the beginning or by a filter.
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

// lacking are the wanted sources that a stream does not have whole.
func lacking(want []SourceSpec, is []*natsjs.StreamSource) []SourceSpec {
	var missing []SourceSpec
	for _, s := range want {
		if !slices.ContainsFunc(is, func(h *natsjs.StreamSource) bool { return s.same(h) && takesAll(h) }) {
			missing = append(missing, s)
		}
	}
	return missing
}

// addSources puts what is lacking in, in place of a source that took only a part.
func addSources(is []*natsjs.StreamSource, want []SourceSpec) []*natsjs.StreamSource {
	for _, s := range lacking(want, is) {
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
