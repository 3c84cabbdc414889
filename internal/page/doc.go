// Package page serves the page of a program's admin endpoint to browsers, and its content as JSON to
// the command top. The page does not depend on the program: it shows a [View] that the program's
// [Source] provides. The last hour comes from a [History] of bounded size.
//
// The page is read-only. Its files are embedded, it contacts no other host, and its
// Content-Security-Policy allows no inline script or style. Names from devices are set as text, never
// as markup.
package page
