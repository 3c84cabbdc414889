// Package top shows on a terminal what the page of an admin endpoint shows in a browser,
// from the same view. It does not know which program answers.
package top
