package ingest

import (
	"encoding/binary"
	"io"
	"time"
)

// PostgreSQL's binary COPY: a header, tuples, a trailer (documentation of COPY, File
// Formats, Binary Format). Written here and not by pgx, whose CopyFrom first asks
// for the columns' types and so costs exchanges of its own.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// pgEpoch is 2000-01-01T00:00:00Z in µs since 1970: PostgreSQL counts from there.
const pgEpoch = 946684800_000_000

func appendTuple(b []byte, columns int) []byte {
	return binary.BigEndian.AppendUint16(b, uint16(columns))
}

func appendText[T string | []byte](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

func appendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, 0xffffffff) }

// appendOptional is NULL where there is none.
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

// appendTime loses what is below a µs, always in the same way.
func appendTime(b []byte, t time.Time) []byte { return appendInt(b, t.UnixMicro()-pgEpoch) }

func appendBool(b []byte, v bool) []byte {
	b = binary.BigEndian.AppendUint32(b, 1)
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendJSON is jsonb's text in its first and only version.
func appendJSON(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)+1))
	b = append(b, 1)
	return append(b, v...)
}

// copyReader is rows as one COPY.
type copyReader struct {
	rows []row
	rest []byte // of the part being read
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
