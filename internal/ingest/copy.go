package ingest

import (
	"encoding/binary"
	"io"
	"time"
)

// PostgreSQL's binary COPY format has a header, tuples and a trailer (documentation of COPY, File
// Formats, Binary Format). pgx's CopyFrom is not used because it first queries the types of the
// columns, which costs extra round trips.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// pgEpoch is PostgreSQL's epoch, 2000-01-01T00:00:00Z, in µs since 1970.
const pgEpoch = 946684800_000_000

func appendTuple(b []byte, columns int) []byte {
	return binary.BigEndian.AppendUint16(b, uint16(columns))
}

func appendText[T string | []byte](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

func appendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, 0xffffffff) }

// appendOptional appends a text, or NULL if it is empty.
func appendOptional(b []byte, v string) []byte {
	if v == "" {
		return appendNull(b)
	}
	return appendText(b, v)
}

func appendInt(b []byte, v int64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

// appendTime appends a time, truncated to µs.
func appendTime(b []byte, t time.Time) []byte { return appendInt(b, t.UnixMicro()-pgEpoch) }

func appendBool(b []byte, v bool) []byte {
	b = binary.BigEndian.AppendUint32(b, 1)
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendJSON appends jsonb in the binary format's version 1: a version byte and the text.
func appendJSON(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)+1))
	b = append(b, 1)
	return append(b, v...)
}

// copyReader reads rows in the format of one COPY.
type copyReader struct {
	rows []row
	rest []byte // rest of the part being read
	next int    // 0: header; then the rows; then the trailer; then the end
}

// Read implements io.Reader.
func (r *copyReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.rest) == 0 {
			switch {
			case r.next == 0:
				r.rest = []byte(copyHeader)
			case r.next <= len(r.rows):
				r.rest = r.rows[r.next-1].tuple
			case r.next == len(r.rows)+1:
				r.rest = []byte(copyTrailer)
			case n == 0:
				return 0, io.EOF
			default:
				return n, nil
			}
			r.next++
		}
		c := copy(p[n:], r.rest)
		r.rest = r.rest[c:]
		n += c
	}
	return n, nil
}
