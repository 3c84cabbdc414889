package layout

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// libraries may name neither keys of the configuration nor commands. Advice for the operator
// belongs in internal/advice, where the configuration is known.
var libraries = []string{"subjects", "bridge", "mqtt", "jetstream", "internal/lease"}

var operatorWords = regexp.MustCompile(`\b(mqtt|nats|streams|lanes?|limits|identity|quarantine|telemetry|database|admin)\.[a-z]+(_[a-z]+)*\b|\b[a-z]+_dir\b|\bmqtt-nats-bridge [a-z]|\bnats (kv|stream|consumer) [a-z]|\bnats\.conf\b`)

// operatorWordsAllowed maps a legitimate string to the reason.
var operatorWordsAllowed = map[string]string{
	"waits for the hub, which sources it; see nats.mode leaf of mqtt-nats-bridge": "the description of a stream, for those who find it at the server",
	"which replica of mqtt-nats-bridge leases which partition":                    "the description of a bucket, for the same",
}

// TestLibraryStrings compares the strings of the library packages with the words of the
// configuration and of the command lines.
func TestLibraryStrings(t *testing.T) {
	t.Parallel()
	read := 0
	for _, library := range libraries {
		require.NoError(t, filepath.WalkDir("../../"+library, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			files := token.NewFileSet()
			file := files.AddFile(path, files.Base(), len(text))
			var s scanner.Scanner
			s.Init(file, text, nil, 0)
			for {
				pos, tok, lit := s.Scan()
				if tok == token.EOF {
					return nil
				}
				lit = strings.Trim(lit, "\"`")
				if tok != token.STRING || strings.Contains(lit, "/") && !strings.Contains(lit, " ") || strings.Contains(lit, "json:") {
					continue // an import path or a tag
				}
				read++
				if found := operatorWords.FindString(lit); found != "" && operatorWordsAllowed[lit] == "" {
					t.Errorf("%s: %q names %q", files.Position(pos), lit, found)
				}
			}
		}))
	}
	require.Greater(t, read, 500, "the strings are not found any more")
}
