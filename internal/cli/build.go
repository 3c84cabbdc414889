package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
)

// Build is what the binary knows of how it was made.
type Build struct {
	Version  string
	Revision string // of the version control, with +dirty; empty: not known
	Go       string
	// Libraries are those of the modules asked for, "path version".
	Libraries []string
}

// ReadBuild reads it. version is what the linker set, empty where it did not;
// libraries are the paths of the modules that speak to the peers.
func ReadBuild(version string, libraries ...string) Build {
	b := Build{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if b.Revision != "" {
		b.Revision += dirty
	}
	for _, dep := range info.Deps {
		if slices.Contains(libraries, dep.Path) {
			b.Libraries = append(b.Libraries, dep.Path+" "+dep.Version)
		}
	}
	return b
}

// Print writes the build for a reader.
func (b Build) Print(w io.Writer, program string) {
	fmt.Fprintf(w, "%s %s\n", program, b.Version)
	if b.Revision != "" {
		fmt.Fprintf(w, "revision %s\n", b.Revision)
	}
	fmt.Fprintf(w, "%s %s/%s\n", b.Go, runtime.GOOS, runtime.GOARCH)
	for _, l := range b.Libraries {
		fmt.Fprintln(w, l)
	}
}
