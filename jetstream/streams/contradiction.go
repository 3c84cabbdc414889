package streams

import (
	"errors"
	"fmt"
	"strings"
)

// ErrContradiction means that streams or consumers differ from the configuration in a way that no
// retry fixes: a stream without its subjects or with another retention or storage, a subject of
// another stream, a stream that is missing under [ManageVerify], a consumer with a policy that can
// lose messages. The error is of type [Contradictions]. Other errors of [Manage] may be temporary.
var ErrContradiction = errors.New("streams contradict the configuration")

// Contradictions is the list of all that were found; it is an [ErrContradiction].
type Contradictions []*Contradiction

// Error returns one line for the sentinel and one for each contradiction.
func (all Contradictions) Error() string {
	lines := []string{ErrContradiction.Error() + ":"}
	for _, c := range all {
		lines = append(lines, c.Error())
	}
	return strings.Join(lines, "\n")
}

// Is implements errors.Is.
func (all Contradictions) Is(target error) bool { return target == ErrContradiction }

// Contradiction is one way in which a stream or a consumer contradicts what is declared.
type Contradiction struct {
	Kind   ContradictionKind
	Object string // "stream NAME" or "consumer STREAM/NAME"
	Field  Field  // zero: it concerns no field
	Advice string // what can be done, set where the configuration is known

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

// ContradictionKind says what can be done about a contradiction.
type ContradictionKind int

// The kinds of contradictions.
const (
	SubjectTaken    ContradictionKind = iota // of another stream
	StreamMissing                            // and may not be created
	StreamUnmanaged                          // can lose messages, and is not to be changed
	StreamFixed                              // cannot be changed on a stream that exists
	StreamDiffers                            // apply changes it
	ConsumerFixed                            // cannot be changed on a consumer that exists
	ConsumerDiffers                          // can lose messages, apply changes it
)

// contradictions returns what prevents the start in the mode; nil: nothing. In mode apply that is
// only what apply cannot change.
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

// differs returns the contradiction of a field.
func differs(kind ContradictionKind, object string, f Field, more string) *Contradiction {
	return &Contradiction{Kind: kind, Object: object, Field: f, problem: fmt.Sprintf("%s is %s, must be %s%s", f.Name, f.Is, f.Want, more)}
}

// contradiction is what f means for the start under mode; nil where it means nothing.
func (s StreamDifference) contradiction(f Field, mode ManageMode) *Contradiction {
	object := "stream " + s.Spec.Name
	switch {
	case mode == ManageOff:
		// Subjects that it omits may belong to another stream. If not, nothing is lost: such a
		// message is not confirmed.
		if !f.Contradicts || f.Name == "subjects" {
			return nil
		}
		return differs(StreamUnmanaged, object, f, ", or messages can be lost")
	case f.Fixed:
		return differs(StreamFixed, object, f, ", and cannot be changed on a stream that exists")
	case f.Name == "subjects" && len(s.Owners) > 0:
		return nil // apply would not help; the owner is named
	case f.Contradicts && mode != ManageApply:
		return differs(StreamDiffers, object, f, "")
	}
	return nil
}

// contradiction is what f means for the start under mode; nil where it means nothing. Under
// apply that is what cannot be changed, otherwise what can lose messages.
func (c ConsumerDifference) contradiction(f Field, mode ManageMode) *Contradiction {
	object := "consumer " + c.Spec.key()
	switch {
	case f.Fixed && (f.Contradicts || mode == ManageApply):
		return differs(ConsumerFixed, object, f, ", and cannot be changed on a consumer that exists")
	case f.Contradicts && mode != ManageApply:
		return differs(ConsumerDiffers, object, f, ", or messages can be lost")
	}
	return nil
}
