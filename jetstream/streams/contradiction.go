package streams

import (
	"errors"
	"fmt"
	"strings"
)

// ErrContradiction means that streams or consumers differ from the configuration in a way that no
// retry fixes: a stream without its subjects or with another retention or storage, a subject that
// belongs to another stream, a missing stream under [ManageVerify], or a consumer with a policy
// that can lose messages. The error is of type [Contradictions]. Other errors of [Manage] may be
// temporary.
var ErrContradiction = errors.New("streams contradict the configuration")

// Contradictions lists all contradictions found. It is an [ErrContradiction].
type Contradictions []*Contradiction

// Error returns one line for the sentinel and one per contradiction.
func (all Contradictions) Error() string {
	lines := []string{ErrContradiction.Error() + ":"}
	for _, c := range all {
		lines = append(lines, c.Error())
	}
	return strings.Join(lines, "\n")
}

// Is implements errors.Is.
func (all Contradictions) Is(target error) bool { return target == ErrContradiction }

// Contradiction is one way in which a stream or a consumer contradicts its spec.
type Contradiction struct {
	Kind   ContradictionKind
	Object string // "stream NAME" or "consumer STREAM/NAME"
	Field  Field  // zero: it concerns no field
	Advice string // how to fix it; set where the configuration is known

	problem string
}

// Error returns a sentence that names the object.
func (c *Contradiction) Error() string {
	text := c.Object + ": " + c.problem
	if c.Advice != "" {
		text += ": " + c.Advice
	}
	return text
}

// ContradictionKind determines how a contradiction can be fixed.
type ContradictionKind int

// The kinds of contradictions.
const (
	SubjectTaken    ContradictionKind = iota // a subject belongs to another stream
	StreamMissing                            // the stream does not exist and must not be created
	StreamUnmanaged                          // the stream can lose messages and must not be changed
	StreamFixed                              // cannot be changed on an existing stream
	StreamDiffers                            // apply changes it
	ConsumerFixed                            // cannot be changed on an existing consumer
	ConsumerDiffers                          // can lose messages; apply changes it
)

// contradictions returns what prevents the start in the mode; nil: nothing. In mode apply these are
// only differences that apply cannot change.
func (d *Difference) contradictions(mode ManageMode) error {
	var all Contradictions
	add := func(c *Contradiction) {
		if c != nil {
			all = append(all, c)
		}
	}
	for _, s := range d.Streams {
		object := "stream " + s.Spec.Name
		for _, h := range s.Owners {
			add(&Contradiction{Kind: SubjectTaken, Object: object, problem: fmt.Sprintf("subject %s belongs to stream %s", h.Subject, h.Stream)})
		}
		if s.State == Missing && mode == ManageVerify {
			add(&Contradiction{Kind: StreamMissing, Object: object, problem: "does not exist"})
		}
		for _, f := range s.Fields {
			add(s.contradiction(f, mode))
		}
	}
	for _, c := range d.Consumers {
		for _, f := range c.Fields {
			add(c.contradiction(f, mode))
		}
	}
	if all == nil {
		return nil
	}
	return all
}

// fieldContradiction returns the contradiction of a field.
func fieldContradiction(kind ContradictionKind, object string, f Field, more string) *Contradiction {
	return &Contradiction{Kind: kind, Object: object, Field: f, problem: fmt.Sprintf("%s is %s, must be %s%s", f.Name, f.Is, f.Want, more)}
}

// contradiction returns what f contradicts under mode; nil: nothing.
func (s StreamDifference) contradiction(f Field, mode ManageMode) *Contradiction {
	object := "stream " + s.Spec.Name
	switch {
	case mode == ManageOff:
		// A missing subject may belong to another stream. If it does not, nothing is lost, because
		// its messages are not acknowledged.
		if !f.Contradicts || f.Name == "subjects" {
			return nil
		}
		return fieldContradiction(StreamUnmanaged, object, f, ", or messages can be lost")
	case f.Fixed:
		return fieldContradiction(StreamFixed, object, f, ", and cannot be changed on a stream that exists")
	case f.Name == "subjects" && len(s.Owners) > 0:
		return nil // apply would not help; the owner is reported instead
	case f.Contradicts && mode != ManageApply:
		return fieldContradiction(StreamDiffers, object, f, "")
	}
	return nil
}

// contradiction returns what f contradicts under mode; nil: nothing. Under apply only fields that
// cannot be changed count, otherwise only those that can lose messages.
func (c ConsumerDifference) contradiction(f Field, mode ManageMode) *Contradiction {
	object := "consumer " + c.Spec.key()
	switch {
	case f.Fixed && (f.Contradicts || mode == ManageApply):
		return fieldContradiction(ConsumerFixed, object, f, ", and cannot be changed on a consumer that exists")
	case f.Contradicts && mode != ManageApply:
		return fieldContradiction(ConsumerDiffers, object, f, ", or messages can be lost")
	}
	return nil
}
