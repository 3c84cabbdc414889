package config

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

// set reads text into the leaf and checks what its tags demand. On an error,
// which is a whole sentence, the leaf keeps its value.
func (l *leaf) set(text string) error {
	v := reflect.New(l.value.Type()).Elem()
	if err := parseInto(v, text); err != nil {
		return err
	}
	if err := l.checkEnum(v); err != nil {
		return err
	}
	if err := l.checkBounds(v, text); err != nil {
		return err
	}
	l.value.Set(v)
	return nil
}

func parseInto(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case parser:
		return p.parse(text)
	case *time.Duration:
		d, err := parseDuration(text)
		*p = d
		return err
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%s is not true or false", quote(text))
		}
		*p = text == "true"
		return nil
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%s is not a whole number; write it like 100", quote(text))
		}
		*p = n
		return nil
	}
	// Texts go to places that carry no control characters: MQTT strings
	// (MQTT-1.5.3-2), file names, log lines, headers.
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("holds bytes that are not UTF-8, or a control character such as a line break; write plain text")
	}
	v.SetString(text)
	return nil
}

func (l *leaf) checkEnum(v reflect.Value) error {
	enum := l.tag.Get("enum")
	if enum == "" {
		return nil
	}
	text := v.String()
	allowed := strings.Split(enum, "|")
	if slices.Contains(allowed, text) {
		return nil
	}
	if why, ok := pairs(l.tag.Get("refuse"), "|")[text]; ok {
		return fmt.Errorf("%s %s", quote(text), why)
	}
	if near := nearest(text, allowed); near != "" {
		return fmt.Errorf("%s is not known; did you mean %s?", quote(text), near)
	}
	return fmt.Errorf("%s is not known; write %s", quote(text), orList(allowed))
}

func (l *leaf) checkBounds(v reflect.Value, text string) error {
	least, most, step := l.tag.Get("min"), l.tag.Get("max"), l.tag.Get("step")
	below := least != "" && compare(v, l.bound(least)) < 0
	above := most != "" && compare(v, l.bound(most)) > 0
	switch {
	case (below || above) && most == "":
		return fmt.Errorf("%s is out of range; write %s or more", quote(text), least)
	case (below || above) && least == "":
		return fmt.Errorf("%s is out of range; write at most %s", quote(text), most)
	case below || above:
		return fmt.Errorf("%s is out of range; write %s to %s", quote(text), least, most)
	case step != "" && v.Int()%l.bound(step).Int() != 0:
		return fmt.Errorf("%s is not a multiple of %s", quote(text), step)
	}
	return nil
}

// bound reads a bound from a tag; a test reads them all.
func (l *leaf) bound(text string) reflect.Value {
	v := reflect.New(l.value.Type()).Elem()
	if err := parseInto(v, text); err != nil {
		panic(fmt.Sprintf("read bound of %s: %v", l.path, err))
	}
	return v
}

func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}

// show is the leaf's value in the syntax of the file, secrets redacted.
func (l *leaf) show() string {
	switch v := l.value.Interface().(type) {
	case time.Duration:
		return formatDuration(v)
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(l.value.Interface())
}
