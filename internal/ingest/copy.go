package ingest

import (
	"encoding/binary"
	"net"
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

// copyData returns rows in the format of one COPY.
func copyData(rows []row) *net.Buffers {
	parts := make(net.Buffers, 0, len(rows)+2)
	parts = append(parts, []byte(copyHeader))
	for _, r := range rows {
		parts = append(parts, r.tuple)
	}
	parts = append(parts, []byte(copyTrailer))
	return &parts
}
