package schema

import (
	"slices"
	"strings"
)

// nearest returns the candidate that word is probably a misspelling of, or empty text.
func nearest(word string, candidates []string) string {
	return closest(strings.ToLower(word), candidates, max(1, len(word)/3))
}

// closest returns the first of the candidates with the least distance from word, or empty text if all
// distances exceed limit.
func closest(word string, candidates []string, limit int) string {
	best, least := "", limit+1
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance returns the edit distance of two words: the number of inserted, deleted, replaced or
// swapped adjacent bytes (optimal string alignment).
func distance(a, b string) int {
	// Words far longer than any key are not misspelled keys. The limit bounds the quadratic time.
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// unknownKey returns the error text for a key that s does not have. It suggests a similar key, the
// section that has the key, or the keys of s.
func (l *Loader) unknownKey(s *Section, key string) string {
	if near := nearest(key, s.Keys); near != "" {
		return "unknown key; did you mean " + near + "?"
	}
	elsewhere := l.root.find(key)
	if len(elsewhere) > 0 && len(elsewhere) <= 3 {
		return "unknown key; did you mean " + orList(elsewhere) + "?"
	}
	return "unknown key; known here: " + strings.Join(slices.Sorted(slices.Values(s.Keys)), ", ")
}

// find returns the paths below s whose last key is key.
func (s *Section) find(key string) []string {
	var paths []string
	for _, k := range s.Keys {
		if k == key && s.Path != "" {
			paths = append(paths, join(s.Path, k))
		}
		if sub, ok := s.Sections[k]; ok {
			paths = append(paths, sub.find(key)...)
		}
	}
	return paths
}

// orList joins words, as in "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
