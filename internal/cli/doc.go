// Package cli is what the command lines of this module's programs share: their set-up with the flags
// of the configuration ([Main]), the commands that every program has ([Common]), signals, the log,
// exit codes, and how an error is shown.
package cli
