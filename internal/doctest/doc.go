// Package doctest tests the pages under docs/. A test reads a page, runs the commands of its
// console blocks in order against real servers, and compares their output with the page, so that
// pages stay correct.
//
// The format of the blocks:
//
//	```console
//	$ nats stream get TELEMETRY 1          a command, in bash; variables, the directory
//	                                       and files last for the whole page
//	Item: TELEMETRY#1 … on Subject …       what it prints: these lines in this order,
//	                                       with others between them; spaces count as
//	                                       one, … stands for anything, and a message's
//	                                       headers may change places
//	# exit status 2                        where it is not 0
//	```
//
// A command continues on the next line after a backslash, a pipe, or a semicolon (with or without a
// do). In a block `console terminal` the commands get a terminal, which some of them require. A
// block `console elsewhere` has commands that only the reader's machine can run; the test only
// checks that it knows their programs. Other blocks have no commands. If another block begins with
// a comment with a file name, "# bridge.yaml" or "-- compare.sql", it is written to that file.
//
// Pages use the usual addresses of servers, such as nats://127.0.0.1:4222, and the test replaces
// them with its own. A command in backquotes within a sentence must begin like a command that the
// page runs.
package doctest
