package streams

import (
	"errors"
	"fmt"
	"strings"
)

// ErrContradiction is what exists in a way that no retry fixes: a stream without
// its subjects, with another retention or storage, a subject that another stream
// holds, a stream that is missing under [ManageVerify], a consumer with a policy that
// can lose messages. The error is [Contradictions]. Other errors of [Manage] may pass.
var ErrContradiction = errors.New("streams contradict the configuration")

// Contradictions are all that was found, and an [ErrContradiction].
type Contradictions []*Contradiction

// Error is a line for the sentinel and one for each contradiction.
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
	Field  Field  // zero where it is about none
	Advice string // for the reader of Error, set by those who know what can be done

	problem string
}

// Error is a sentence that names the object.
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
	SubjectTaken    ContradictionKind = iota // by another stream
	StreamMissing                            // and may not be created
	StreamUnmanaged                          // can lose messages, and is not to be changed
	StreamFixed                              // cannot be changed on a stream that exists
	StreamDiffers                            // apply changes it
	ConsumerFixed                            // cannot be changed on a consumer that exists
	ConsumerDiffers                          // can lose messages, apply changes it
)

// contradictions are what stops the start under mode; nil: nothing. Under apply that is only
// what apply cannot change.
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
			add(&Contradiction{Kind: SubjectTaken, Object: object, problem: fmt.Sprintf("subject %s is held by stream %s", h.Subject, h.Stream)})
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

// differs is a contradiction of a field.
func differs(kind ContradictionKind, object string, f Field, more string) *Contradiction {
	return &Contradiction{Kind: kind, Object: object, Field: f, problem: fmt.Sprintf("%s is %s, must be %s%s", f.Name, f.Is, f.Want, more)}
}

// contradiction is what f means for the start under mode; nil where it means nothing.
func (s StreamDifference) contradiction(f Field, mode ManageMode) *Contradiction {
	object := "stream " + s.Spec.Name
	switch {
	case mode == ManageOff:
		// Subjects that it leaves out may be those of another stream. Nothing is lost
		// where they are not: nobody confirms such a message.
		if !f.Contradicts || f.Name == "subjects" {
			return nil
		}
		return differs(StreamUnmanaged, object, f, ", or messages can be lost")
	case f.Fixed:
		return differs(StreamFixed, object, f, ", and cannot be changed on a stream that exists")
	case f.Name == "subjects" && len(s.Owners) > 0:
		return nil // apply would not help; the holder is named
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
