package schema

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Set reads text into the leaf and checks it against the leaf's tags. On an error, the leaf keeps its
// value. The error is a whole sentence.
func (l *Leaf) Set(text string) error {
	v := reflect.New(l.Value.Type()).Elem()
	if l.IsList() {
		return l.parseList(l.Value, text)
	}
	if err := parseInto(v, text); err != nil {
		return err
	}
	if err := l.checkEnum(v); err != nil {
		return err
	}
	if err := l.checkBounds(v, text); err != nil {
		return err
	}
	l.Value.Set(v)
	return nil
}

func parseInto(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case parser:
		return p.Parse(text)
	case *time.Duration:
		d, err := ParseDuration(text)
		*p = d
		return err
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%s is not true or false", Quote(text))
		}
		*p = text == "true"
		return nil
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%s is not a whole number; write it like 100", Quote(text))
		}
		*p = n
		return nil
	}
	// Texts are used where control characters are not allowed: MQTT strings [MQTT-1.5.3-2], file
	// names, log lines, headers.
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("contains invalid UTF-8 or a control character, such as a line break; write plain text")
	}
	v.SetString(text)
	return nil
}

func (l *Leaf) checkEnum(v reflect.Value) error {
	enum := l.Tag.Get("enum")
	if enum == "" {
		return nil
	}
	text := v.String()
	allowed := strings.Split(enum, "|")
	if slices.Contains(allowed, text) {
		return nil
	}
	if why, ok := pairs(l.Tag.Get("refuse"), "|")[text]; ok {
		return fmt.Errorf("%s %s", Quote(text), why)
	}
	if near := nearest(text, allowed); near != "" {
		return fmt.Errorf("%s is not known; did you mean %s?", Quote(text), near)
	}
	return fmt.Errorf("%s is not known; write %s", Quote(text), orList(allowed))
}

func (l *Leaf) checkBounds(v reflect.Value, text string) error {
	least, most, step := l.Tag.Get("min"), l.Tag.Get("max"), l.Tag.Get("step")
	below := least != "" && compare(v, l.Bound(least)) < 0
	above := most != "" && compare(v, l.Bound(most)) > 0
	switch {
	case (below || above) && most == "":
		return fmt.Errorf("%s is out of range; write %s or more", Quote(text), least)
	case (below || above) && least == "":
		return fmt.Errorf("%s is out of range; write at most %s", Quote(text), most)
	case below || above:
		return fmt.Errorf("%s is out of range; write %s to %s", Quote(text), least, most)
	case step != "" && v.Int()%l.Bound(step).Int() != 0:
		return fmt.Errorf("%s is not a multiple of %s", Quote(text), step)
	}
	return nil
}

// Bound reads a bound from a tag. A test reads all bounds.
func (l *Leaf) Bound(text string) reflect.Value {
	v := reflect.New(l.Value.Type()).Elem()
	if err := parseInto(v, text); err != nil {
		panic(fmt.Sprintf("read bound of %s: %v", l.Path, err))
	}
	return v
}

func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}

// Show returns the leaf's value in the syntax of the file, with secrets redacted.
func (l *Leaf) Show() string {
	if d, ok := l.Value.Interface().(time.Duration); ok {
		return FormatDuration(d)
	}
	return fmt.Sprint(l.Value.Interface())
}
