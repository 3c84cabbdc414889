// Package page is the page that a browser gets from a program's admin endpoint, and the
// same content as JSON for the command top. The page knows nothing about a program: it
// shows a [View], which the program's [Source] fills in. What happened in the last hour
// comes from a [History] of bounded size.
//
// The page reads and changes nothing. Its files are embedded, it asks no other host, and
// its Content-Security-Policy permits no inline script or style. Every name from a device
// is set as text, never as markup.
package page
