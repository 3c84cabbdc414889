package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxDepth bounds the nesting of arrays and objects. PostgreSQL's own bound depends on its
	// max_stack_depth.
	maxDepth = 512
	// jsonb stores numbers as numeric, which bounds the digits before and after the decimal point
	// (PostgreSQL, Numeric Types).
	maxWhole    = 131_072
	maxFraction = 16_383
)

// ErrNotObject means that the JSON value is not an object.
var ErrNotObject = errors.New("the payload is not a JSON object")

// Member is a top-level member to read.
type Member struct {
	Key   string
	Value *[]byte // set to the raw value; unchanged without the member
}

// Read checks that jsonb accepts data and that data is an object. It sets the given members. The
// error is one sentence. The database rejects anything that this check misses.
func Read(data []byte, members ...Member) error {
	return inspect(data, func(key, value []byte) {
		for _, m := range members {
			if m.Key == string(key) {
				*m.Value = value
			}
		}
	})
}

// inspect implements [Read]. It calls member with the decoded key and the raw value of each
// top-level member.
func inspect(data []byte, member func(key, value []byte)) error {
	switch {
	case !utf8.Valid(data):
		return errors.New("the payload is not UTF-8")
	case !json.Valid(data):
		return notJSON(data)
	}
	in := inspection{data: data, member: member}
	return in.run()
}

func notJSON(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the payload is empty")
	}
	var v json.RawMessage
	err := json.Unmarshal(data, &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("the payload is not JSON: %w at byte %d", err, syntax.Offset)
	}
	return fmt.Errorf("the payload is not JSON: %w", err)
}

// inspection walks over valid JSON.
type inspection struct {
	data   []byte
	member func(key, value []byte)

	at    int
	depth int
	key   []byte // of the member being read, at depth 1
	isKey bool   // at depth 1, the next text is a key
	from  int    // where the member's value begins
}

func (in *inspection) run() error {
	in.at = len(in.data) - len(bytes.TrimLeft(in.data, " \t\r\n"))
	if in.data[in.at] != '{' {
		return ErrNotObject
	}
	for in.at < len(in.data) {
		var err error
		switch c := in.data[in.at]; c {
		case ' ', '\t', '\r', '\n', ':':
			in.at++
		case ',':
			in.at++
			in.isKey = in.depth == 1
		case '{', '[':
			if in.depth == 1 {
				in.from = in.at
			}
			in.at++
			in.depth++
			in.isKey = in.depth == 1
			if in.depth > maxDepth {
				err = fmt.Errorf("the payload is nested deeper than %d", maxDepth)
			}
		case '}', ']':
			in.at++
			in.depth--
			if in.depth == 1 {
				in.member(in.key, in.data[in.from:in.at])
			}
		case '"':
			err = in.text()
		default:
			err = in.scalar()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text skips a string and checks its escapes.
func (in *inspection) text() error {
	from := in.at
	in.at++
	escaped := false
	for in.data[in.at] != '"' {
		if in.data[in.at] != '\\' {
			in.at++
			continue
		}
		escaped = true
		if in.data[in.at+1] != 'u' {
			in.at += 2
			continue
		}
		if err := in.unicode(); err != nil {
			return err
		}
	}
	in.at++
	if in.depth != 1 {
		return nil
	}
	whole := in.data[from:in.at]
	if !in.isKey {
		in.member(in.key, whole)
		return nil
	}
	in.isKey = false
	in.key = whole[1 : len(whole)-1]
	if escaped {
		var key string
		if err := json.Unmarshal(whole, &key); err != nil {
			return fmt.Errorf("the payload has an invalid key: %w", err)
		}
		in.key = []byte(key)
	}
	return nil
}

// unicode skips \uXXXX. jsonb can store neither NUL nor an unpaired surrogate.
func (in *inspection) unicode() error {
	r := hex4(in.data[in.at+2:])
	in.at += 6
	switch {
	case r == 0:
		return errors.New(`the payload contains \u0000, which PostgreSQL cannot store`)
	case utf16.IsSurrogate(r):
		low := in.data[in.at:]
		if low[0] != '\\' || low[1] != 'u' || utf16.DecodeRune(r, hex4(low[2:])) == utf8.RuneError {
			return errors.New("the payload contains half of a surrogate pair")
		}
		in.at += 6
	}
	return nil
}

// hex4 parses the four digits of an escape, which [json.Valid] has checked.
func hex4(b []byte) rune {
	r, _ := strconv.ParseUint(string(b[:4]), 16, 32)
	return rune(r)
}

// scalar skips a number, true, false or null.
func (in *inspection) scalar() error {
	rest := in.data[in.at:]
	value := rest[:bytes.IndexAny(rest, ",}] \t\r\n")] // at least the } of the object follows
	in.at += len(value)
	if c := value[0]; c == '-' || c >= '0' && c <= '9' {
		if len(value) > 15 || bytes.ContainsAny(value, "eE") {
			if err := checkNumber(value); err != nil {
				return err
			}
		}
	}
	if in.depth == 1 {
		in.member(in.key, value)
	}
	return nil
}

// checkNumber checks that a number fits into numeric.
func checkNumber(value []byte) error {
	mantissa, exponent := value, 0
	if i := bytes.IndexAny(value, "eE"); i >= 0 {
		mantissa = value[:i]
		n, err := strconv.Atoi(string(value[i+1:]))
		if err != nil {
			return numberRange(value)
		}
		exponent = n
	}
	whole, fraction, _ := bytes.Cut(bytes.TrimPrefix(mantissa, []byte("-")), []byte("."))
	// weight is the position of the first non-zero digit.
	weight := 0
	if digits := append(bytes.Clone(whole), fraction...); len(bytes.TrimLeft(digits, "0")) > 0 {
		weight = len(whole) - (len(digits) - len(bytes.TrimLeft(digits, "0"))) + exponent
	}
	if weight > maxWhole || len(fraction)-exponent > maxFraction {
		return numberRange(value)
	}
	return nil
}

func numberRange(value []byte) error {
	return fmt.Errorf("the payload contains the number %s, which is out of PostgreSQL's range", Shorten(value))
}
