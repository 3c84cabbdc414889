package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X main.version=1.0.0". Without that
// it is the version of the module, as of the version control.
var version string

// build is what the binary knows of how it was made.
type build struct {
	Version  string
	Revision string // of the version control, with +dirty; empty: not known
	Go       string
	// Libraries are the ones that speak to the peers, "path version".
	Libraries []string
}

func readBuild() build {
	b := build{Version: version, Go: runtime.Version()}
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
		switch dep.Path {
		case "github.com/eclipse/paho.mqtt.golang", "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2":
			b.Libraries = append(b.Libraries, dep.Path+" "+dep.Version)
		}
	}
	return b
}

// versionCommand prints the build.
type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(p *program) error {
	b := readBuild()
	fmt.Fprintf(p.out, "mqtt-nats-bridge %s\n", b.Version)
	if b.Revision != "" {
		fmt.Fprintf(p.out, "revision %s\n", b.Revision)
	}
	fmt.Fprintf(p.out, "%s %s/%s\n", b.Go, runtime.GOOS, runtime.GOARCH)
	for _, l := range b.Libraries {
		fmt.Fprintln(p.out, l)
	}
	return nil
}
