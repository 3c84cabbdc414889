// Package faults kills, suspends and disconnects processes under load and fills disks and streams.
// Every message must be stored once and in order.
package faults
