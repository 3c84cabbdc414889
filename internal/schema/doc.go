// Package schema reads a configuration. It reads one YAML file, the environment and the command line
// into a struct, or reports all errors together ([Errors]). It does not depend on what a configuration
// contains. The struct's tags describe the keys:
//
//	yaml      the key; every field has one
//	default   the default in the syntax of the file; absent: the zero value
//	defaults  on a section: key=value pairs that replace its fields' defaults
//	min, max  inclusive bounds, in the syntax of the file
//	step      the value must be a multiple of this
//	enum      the allowed values, separated by |
//	refuse    value=error pairs, separated by |: values with their own error text
//	file      "read": the value names a file that must be readable
//	item      on one key of a list's items: an item that is a single value sets this key
//	example   on a list: an example item
//	doc       the meaning of the value, in one line
//
// The fields of an embedded struct are keys of the outer struct. A slice of structs is a list. A
// custom type parses its own values ([parser]) and names its kind. The JSON Schema for editors
// ([JSON]) is generated from the same tags, and so are the tables in the docs, by a test of package
// config.
package schema
