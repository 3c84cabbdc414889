// Package links tests connections that become silent, slow or dead, and lost answers.
package links
