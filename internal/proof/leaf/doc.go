// Package leaf tests leaf mode with real processes.
package leaf
