// Package links has the tests of connections that go silent, slow or dead, and of answers that are lost.
package links
