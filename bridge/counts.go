package bridge

import (
	"math/bits"

	"mqtt-nats-bridge/bridge/verdict"
)

// Counts are the counters and gauges of a lane since its creation.
type Counts struct {
	// Received counts validated deliveries. Each one ends up in exactly one of Stored, Quarantined,
	// QuarantineSkipped and QoS0Dropped, and is in flight until then.
	Received      uint64
	ReceivedBytes uint64 // of payload
	Stored        uint64
	// Rejected counts rejected messages; Quarantined counts the copies stored.
	Rejected          [verdict.Count]uint64
	Quarantined       [verdict.Count]uint64
	QuarantineSkipped uint64 // over the device's quarantine bound, or quarantine is disabled
	Redelivered       uint64 // deliveries with DUP set
	Duplicates        uint64 // JetStream already had them
	RetainedSkipped   uint64
	QoS0Dropped       uint64
	AckLatency        Histogram // of stored messages, from socket read to PubAck

	// Gauges.
	InFlight      int     // validated, not settled
	OldestAge     int64   // of the oldest of them, ns since it was received; 0: none
	BufferFill    float64 // at 1 the lane stops reading until JetStream has stored some messages
	BufferedBytes int     // of messages waiting for JetStream
	CatchingUp    bool
	Connected     bool
}

// QuarantinedTotal returns the sum over all reasons.
func (c *Counts) QuarantinedTotal() (n uint64) {
	for _, v := range c.Quarantined {
		n += v
	}
	return n
}

// Counts returns the current counts of the lane.
func (l *Lane) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.InFlight = l.unsettled
	if oldest := l.ring.get(l.ring.head); oldest != nil && oldest.received > 0 {
		c.OldestAge = max(l.opts.Now()-oldest.received, 0)
	}
	c.BufferFill, c.BufferedBytes = l.bufferFill(), l.bufferedBytes
	c.CatchingUp = l.catchUp.Active(l.opts.Now(), l.ring.len() > 0)
	c.Connected = l.conn != nil
	return c
}

// Histogram counts durations in buckets that double, from 64 µs up.
type Histogram struct {
	Buckets [histogramBuckets]uint64
	Sum     int64 // ns
	Count   uint64
}

const histogramBuckets = 24 // the last is nominally up to 9 minutes and counts everything above, too

func (h *Histogram) observe(ns int64) {
	ns = max(ns, 0)
	h.Count++
	h.Sum += ns
	h.Buckets[min(bits.Len64(uint64(ns)>>16), histogramBuckets-1)]++
}

// UpperBound returns the upper bound of bucket i in ns. The last bucket has none.
func (h *Histogram) UpperBound(i int) int64 { return 1 << (16 + i) }

// Quantile estimates the q-quantile in ns by linear interpolation within its bucket.
func (h *Histogram) Quantile(q float64) int64 {
	rank, seen := q*float64(h.Count), 0.0
	for i, n := range h.Buckets {
		if n == 0 {
			continue
		}
		if seen+float64(n) >= rank {
			upper := float64(h.UpperBound(i))
			lower := upper / 2
			if i == 0 {
				lower = 0
			}
			return int64(lower + (upper-lower)*(rank-seen)/float64(n))
		}
		seen += float64(n)
	}
	return 0
}

// Add adds the counts of another lane's histogram.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Sum += o.Sum
	h.Count += o.Count
}
