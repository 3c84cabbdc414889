package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/alecthomas/kong"
)

// Linked contains the variables of the main package that the linker sets with -ldflags "-X
// main.version=1.0.0 -X main.commit=… -X main.date=…". A variable that was not set is empty.
type Linked struct {
	Version, Commit, Date string
}

// Build is the build information of the binary.
type Build struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // with +dirty if the tree had changes; empty: unknown
	Date    string `json:"date,omitempty"`   // time of the commit, RFC 3339; empty: unknown
	Go      string `json:"go"`
	// Platform is the operating system and the architecture.
	Platform string `json:"platform"`
	// Libraries lists the requested modules that were linked, as "path version".
	Libraries []string `json:"libraries"`
}

// ReadBuild reads the build information of the program called name. For fields that the linker did
// not set, it uses the version control information that Go records. libraries lists the paths of
// the modules to report, those that connect to the peers.
func ReadBuild(name string, linked Linked, libraries ...string) Build {
	b := Build{Name: name, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	b.Version = cmp.Or(linked.Version, info.Main.Version, "devel")
	if b.Version == "(devel)" {
		b.Version = "devel"
	}
	commit, dirty, date := "", "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.time":
			date = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if commit != "" {
		commit += dirty
	}
	b.Commit, b.Date = cmp.Or(linked.Commit, commit), cmp.Or(linked.Date, date)
	for _, dep := range info.Deps {
		if slices.Contains(libraries, dep.Path) {
			b.Libraries = append(b.Libraries, dep.Path+" "+dep.Version)
		}
	}
	return b
}

// versionCommand prints the build.
type versionCommand struct {
	Output
}

// Run implements the command.
func (c versionCommand) Run(x *kong.Context, b Build) error {
	if c.JSON() {
		return PrintJSON(x.Stdout, b)
	}
	fmt.Fprintln(x.Stdout, b.Name, b.Version)
	if b.Commit != "" {
		fmt.Fprintln(x.Stdout, "commit", b.Commit)
	}
	if b.Date != "" {
		fmt.Fprintln(x.Stdout, "date", b.Date)
	}
	fmt.Fprintln(x.Stdout, b.Go, b.Platform)
	for _, l := range b.Libraries {
		fmt.Fprintln(x.Stdout, l)
	}
	return nil
}
