package cli

import (
	"fmt"
	"io"
	"sync"

	"mqtt-nats-bridge/internal/schema"
)

// Stdin returns a function that reads r on its first call. Later calls return the same data, so
// that the configuration can be reloaded.
func Stdin(r io.Reader) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		data, err := io.ReadAll(io.LimitReader(r, schema.MaxFile+1))
		if err == nil && len(data) > schema.MaxFile {
			err = fmt.Errorf("it is larger than %s", schema.Bytes(schema.MaxFile))
		}
		return data, err
	})
}
