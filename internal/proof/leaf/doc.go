// Package leaf has the tests of leaf mode with real processes.
package leaf
