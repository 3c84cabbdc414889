// Package cli contains the parts of the command line that all programs of this module share: the
// set-up with the flags of the configuration ([Main]), the common commands ([Common]), signals, the
// log, exit codes and the output of errors.
package cli
