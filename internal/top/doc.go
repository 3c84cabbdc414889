// Package top shows the view of an admin endpoint's page on a terminal. It does not depend on the program.
package top
