// Package faults kills, freezes and cuts off processes under load, fills disks and streams, and
// expects every message stored once and in order.
package faults
