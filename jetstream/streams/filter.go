package streams

import (
	"slices"
	"strings"
)

// A filter is a subject in which the token * matches any one token, and a final token > one or
// more.

func validFilter(filter string) bool {
	if filter == "" || strings.ContainsAny(filter, " \t\r\n\f\x00") {
		return false
	}
	tokens := strings.Split(filter, ".")
	for i, token := range tokens {
		if token == "" || token == ">" && i < len(tokens)-1 {
			return false
		}
	}
	return true
}

// overlap reports whether a subject exists that matches both filters.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; ; i++ {
		switch {
		case i == len(as) || i == len(bs):
			return len(as) == len(bs)
		case as[i] == ">" || bs[i] == ">":
			return true
		case as[i] != "*" && bs[i] != "*" && as[i] != bs[i]:
			return false
		}
	}
}

// Covers reports whether every subject that matches narrow (a filter or a subject) also matches the
// filter wide.
func Covers(wide, narrow string) bool {
	ws, ns := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i := 0; ; i++ {
		switch {
		case i == len(ws) || i == len(ns):
			return len(ws) == len(ns)
		case ws[i] == ">":
			return true
		case ns[i] == ">" || ws[i] != "*" && ws[i] != ns[i]:
			return false
		}
	}
}

func coveredBy(filter string, filters []string) bool {
	return slices.ContainsFunc(filters, func(wide string) bool { return Covers(wide, filter) })
}
