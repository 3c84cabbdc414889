package subjects

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Route is a pattern with the template for the subjects of its topics.
type Route struct {
	Pattern *Pattern
	// Template must have been parsed for this Pattern; nil means the pattern's own.
	Template *Template
}

// Set contains the routes of a configuration. No topic matches more than one of them. It is
// immutable and safe for concurrent use.
type Set struct {
	routes []Route
	// byLevels contains the routes by number of levels, because the topics of a fleet differ most
	// often in that.
	byLevels [MaxTokens + 1][]int
}

// NewSet compiles routes. It fails if there are none. It reports every overlapping pair with a
// topic that both match, and every route of which [CheckSubject] would reject all subjects.
func NewSet(routes []Route) (*Set, error) {
	if len(routes) == 0 {
		return nil, errors.New("compile topic routes: no routes")
	}
	s := &Set{}
	var errs []error
	for i, r := range routes {
		if r.Pattern == nil {
			return nil, fmt.Errorf("compile topic routes: route %d has no pattern", i)
		}
		if r.Template == nil {
			r.Template = r.Pattern.Template()
		}
		if r.Template.pattern != r.Pattern {
			return nil, fmt.Errorf("compile topic routes: the subject template %q of %q was parsed for the pattern %q",
				r.Template, r.Pattern, r.Template.pattern)
		}
		// A capture never shortens a subject: if this one is invalid, all are.
		if err := CheckSubject([]byte(r.Template.stream)); err != nil {
			errs = append(errs, fmt.Errorf("compile topic routes: no message of %q could be published: %w", r.Pattern, err))
		}
		for _, other := range s.routes {
			if example, ok := Overlap(other.Pattern, r.Pattern); ok {
				errs = append(errs, fmt.Errorf("compile topic routes: %q and %q overlap, both match %q",
					other.Pattern, r.Pattern, example))
			} else if a, b := other.Pattern.Filter(), r.Pattern.Filter(); filtersPartlyOverlap(a, b) {
				errs = append(errs, fmt.Errorf("compile topic routes: the filters %q and %q of %q and %q overlap and neither contains the other: a broker may deliver a message twice; change one of the two",
					a, b, other.Pattern, r.Pattern))
			}
		}
		n, last := len(r.Pattern.levels), len(r.Pattern.levels)
		if r.Pattern.tail {
			last = MaxTokens
		}
		for ; n <= last; n++ {
			s.byLevels[n] = append(s.byLevels[n], i)
		}
		s.routes = append(s.routes, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// Len returns the number of routes.
func (s *Set) Len() int { return len(s.routes) }

// Route returns the route with that index, in the order passed to [NewSet]. Its Template is never
// nil.
func (s *Set) Route(i int) Route { return s.routes[i] }

// Match finds the route that matches a topic, as [Pattern.Match] does, and writes the captures to
// m. If no route matches, m is unchanged.
func (s *Set) Match(topic []byte, m *Match) (route int, ok bool) {
	var levels split
	if !levels.split(topic) {
		return 0, false
	}
	for _, i := range s.byLevels[levels.n] {
		if p := s.routes[i].Pattern; p.matches(topic, &levels) {
			p.capture(topic, &levels, m)
			return i, true
		}
	}
	return 0, false
}

// Filters returns the MQTT filters for the topics of all routes, in the order of the routes. A
// filter that another one covers is omitted, because a broker may deliver a message once per
// matching subscription [MQTT-3.3.5-1].
func (s *Set) Filters() []string {
	var filters []string
	for i, r := range s.routes {
		f := r.Pattern.Filter()
		covered := false
		for j, other := range s.routes {
			g := other.Pattern.Filter()
			covered = covered || j != i && filterCovers(g, f) && (g != f || j < i)
		}
		if !covered {
			filters = append(filters, f)
		}
	}
	return filters
}

// Subscribed reports whether one of the filters matches a topic. Some topics match a filter but no
// route: a/# matches a.
func (s *Set) Subscribed(topic string) bool {
	return slices.ContainsFunc(s.routes, func(r Route) bool { return filterCovers(r.Pattern.Filter(), topic) })
}

// filterCovers reports whether filter a matches every topic that b matches.
func filterCovers(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for i, l := range as {
		switch {
		case l == "#":
			// a/# also matches a. A leading wildcard does not match $...
			return i > 0 || !strings.HasPrefix(b, "$")
		case i == len(bs) || bs[i] == "#":
			return false
		case l == "+" && (i > 0 || !strings.HasPrefix(bs[i], "$")):
		case l != bs[i]:
			return false
		}
	}
	return len(as) == len(bs)
}

// filtersPartlyOverlap reports whether two filters share a topic although neither covers the other.
func filtersPartlyOverlap(a, b string) bool {
	if filterCovers(a, b) || filterCovers(b, a) {
		return false
	}
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for i := 0; ; i++ {
		aEnds, bEnds := i == len(as), i == len(bs)
		switch {
		case aEnds && bEnds:
			return true
		case aEnds:
			return bs[i] == "#"
		case bEnds:
			return as[i] == "#"
		case as[i] == "#" || bs[i] == "#":
			return i > 0 || !strings.HasPrefix(as[0], "$") && !strings.HasPrefix(bs[0], "$")
		case as[i] == bs[i]:
		case as[i] == "+" || bs[i] == "+":
			if i == 0 && (strings.HasPrefix(as[0], "$") || strings.HasPrefix(bs[0], "$")) {
				return false
			}
		default:
			return false
		}
	}
}

// Overlap reports whether two patterns share a topic, and returns an example.
func Overlap(a, b *Pattern) (example string, ok bool) {
	n := max(len(a.levels), len(b.levels))
	if !a.matchesCount(n) || !b.matchesCount(n) {
		return "", false
	}
	shared := make([]string, n)
	for i := range shared {
		la, lb := a.levelAt(i), b.levelAt(i)
		switch {
		case la.isCapture() && lb.isCapture():
			shared[i] = a.names[la.capture] + "1" // tenant/tenant1/... is readable
		case la.isCapture():
			shared[i] = lb.literal
		case lb.isCapture() || la.literal == lb.literal:
			shared[i] = la.literal
		default:
			return "", false
		}
	}
	// A leading capture never matches $..., whatever the other pattern is.
	if strings.HasPrefix(shared[0], "$") && (a.levels[0].isCapture() || b.levels[0].isCapture()) {
		return "", false
	}
	return strings.Join(shared, "/"), true
}
