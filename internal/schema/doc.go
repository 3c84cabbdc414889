// Package schema reads a configuration: one YAML file, the environment and the command line
// become a struct, or one list of everything that is wrong with them ([Errors]). It knows
// nothing of what a configuration is about. The struct's tags say it all:
//
//	yaml      the key; every field has one
//	default   in the syntax of the file; absent: the zero value
//	defaults  on a section: key=value pairs that replace its fields' defaults
//	min, max  inclusive bounds, in the syntax of the file
//	step      the value must be a multiple of it
//	enum      the values allowed, separated by |
//	refuse    value=why pairs, separated by |: values that deserve their own answer
//	file      "read": names a file that must be readable
//	item      on a key of a list's items: what an item is that is a single value
//	example   on a list: an item
//	doc       what the value is, in one line
//
// The fields of an embedded struct are keys of the struct around it. A slice of structs is a
// list. A type of its own reads itself ([parser]) and names its kind. From the same tags come
// the JSON Schema for editors ([JSON]) and, in a test of package config, the tables of the docs.
package schema
