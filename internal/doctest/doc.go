// Package doctest runs the pages under docs/: a test reads a page, runs the commands
// of its console blocks one after the other against real servers, and compares what they
// print with what the page says. So a page cannot rot.
//
// What the blocks of a page look like:
//
//	```console
//	$ nats stream get TELEMETRY 1          a command, in bash; variables, the directory
//	                                       and files last for the whole page
//	Item: TELEMETRY#1 … on Subject …       what it prints: these lines in this order,
//	                                       with others between them; blanks count as
//	                                       one, … stands for anything, and a message's
//	                                       headers may change places
//	# exit status 2                        where it is not 0
//	```
//
// A command goes on in the next line after a backslash, a pipe, or a semicolon
// (with or without a do). After `console terminal` the
// commands get a terminal, which some insist on. A block `console elsewhere` has
// what only a machine of the reader's can run; its programs must be known to the test.
// Other blocks have no commands. One that begins with a comment that is a file's name,
// "# bridge.yaml" or "-- compare.sql", becomes that file.
//
// Pages write servers with their usual addresses, nats://127.0.0.1:4222 for one, and
// the test puts its own there. Commands named in a sentence, in backquotes, must begin
// like one that the page runs.
package doctest
