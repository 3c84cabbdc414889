package cli

import (
	"fmt"
	"io"
	"sync"

	"mqtt-nats-bridge/internal/schema"
)

// Stdin returns a function that reads r when it is first called, and returns the same
// afterwards: a reload reads the configuration again.
func Stdin(r io.Reader) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		data, err := io.ReadAll(io.LimitReader(r, schema.MaxFile+1))
		if err == nil && len(data) > schema.MaxFile {
			err = fmt.Errorf("it is larger than %s", schema.Bytes(schema.MaxFile))
		}
		return data, err
	})
}
