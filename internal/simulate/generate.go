package simulate

import "math/rand/v2"

// weights are the relative frequencies of the events.
type weights [ops]int

// quiet contains the weights of a run without faults; faults are added to it.
var quiet = weights{
	publish: 160, send: 110, takeAcks: 90, connect: 60,
	read: 130, flush: 40, notice: 40, tick: 3, start: 60,
	store: 130, commit: 80, answer: 130,
	natsNotice: 40, natsDial: 60, natsCall: 40,
	heal: 12, wait: 50, between: 50,
}

// faults contains the weights of faults. Each run scales each weight at random, so that there are
// runs with one kind of fault and runs with all.
var faults = weights{
	retry: 12, cut: 20, lose: 10,
	kill: 12, stop: 5, skip: 10, save: 8, restore: 5, elsewhere: 6, keep: 8, setback: 6,
	dropAnswer: 10, fault: 12, leader: 12, natsCut: 16, natsClose: 3, failWrite: 6,
	freeze: 4, purge: 4, ripen: 16,
}

// courses are sequences that lead to states which independent draws seldom reach.
var courses = [][]op{
	{publish, send, read},
	{publish, publish, send, read, skip, publish, publish, send, send, cut, notice, connect, read},
	{publish, publish, send, read, skip, publish, publish, send, kill, start, connect, read},
	{publish, send, read, store, answer, flush, kill, start, connect, publish, send, read},
	{save, publish, send, read, store, answer, restore},
	{publish, send, read, store, answer, elsewhere, notice, connect, read},
	{keep, publish, send, read, store, answer, skip, publish, send, setback, start, connect, read},
	{publish, publish, send, read, store, keep, answer, flush, takeAcks, skip, publish, send, setback, start, connect, read},
	{publish, send, read, store, commit, answer, purge, kill, ripen, start, connect, read},
	{publish, send, cut, notice, connect, read},
	{cut, notice, connect, read},
	{lose, notice, connect, publish, send, read},
	{kill, start, connect, read},
	{stop, start, connect, read},
	{publish, send, between, kill, read, start, connect, read},
	{natsCut, natsNotice, natsDial, read},
	{publish, send, read, store, commit, natsCut, natsNotice, ripen, natsDial, natsCall, store, answer, store, answer},
	{publish, publish, send, read, store, commit, kill, ripen, start, connect, read, store, answer, store, answer},
	{publish, send, read, store, commit, dropAnswer, fault, ripen, heal},
	{publish, send, read, store, commit, natsCut, purge, natsNotice, ripen, natsDial, natsCall, store, answer},
	{publish, send, read, store, commit, dropAnswer, leader, ripen, heal},
	{publish, send, read, store, freeze, natsNotice, natsDial, notice, connect, read},
	{publish, send, read, publish, send, natsCut, natsNotice, natsDial, read},
	{fault, send, read, store, answer},
	{kill, fault, start, connect, publish, publish, send, send, read, read, store, heal, store, answer},
	{store, commit, answer, takeAcks},
	{publish, publish, publish, send, read, store, leader, heal},
}

// generate draws a run from a seed.
func generate(seed uint64) schedule {
	r := rand.New(rand.NewPCG(seed, 0x6d716e74))
	one := func(in int) bool { return r.IntN(in) == 0 }
	s := schedule{setup: setup{
		Attested: one(3), Memory: one(4), Replicated: one(2), Ragged: one(6),
		Limited: one(8), Bounded: one(3), NoStore: one(10), Retained: one(4),
		Window:   []int{1, 3, 8, 20}[r.IntN(4)],
		InFlight: []int{1, 4, 12, 4096}[r.IntN(4)],
		Bytes:    []int{300, 8 << 20}[min(r.IntN(4), 1)],
		Devices:  1 + r.IntN(3),
		FirstID:  []int{1, 1, 1000, 65_530}[r.IntN(4)],
		Pending:  []int{1, 3, 10_000}[r.IntN(3)],
		Strict:   one(3),
		Anew:     one(4), PassDup: one(4),
		BrokerSkew: []int{0, 0, -50, 50}[r.IntN(4)],
		ServerSkew: []int{0, 0, -3600, 300}[r.IntN(4)],
	}}
	w := quiet
	for o, n := range faults {
		w[o] += n * []int{0, 0, 1, 2, 5}[r.IntN(5)]
	}
	if !s.setup.Replicated {
		w[commit], w[leader] = 0, 0
	}
	if one(150) {
		w[flood] = 60
	}
	total := 0
	for _, n := range w {
		total += n
	}
	same := one(2)
	var course []op
	for range 60 + r.IntN(240) {
		e := event{}
		for n := r.IntN(total); n >= w[e.op]; e.op++ {
			n -= w[e.op]
		}
		if len(course) == 0 && one(9) {
			course = courses[r.IntN(len(courses))]
		}
		if len(course) > 0 {
			if w[course[0]] > 0 {
				e.op = course[0]
			}
			course = course[1:]
		}
		e.a, e.b = arguments(e.op, r)
		if e.op == publish && same {
			e.b &^= 1 // only equal payloads
		}
		s.events = append(s.events, e)
	}
	return s
}

// arguments draws the numbers of an event. They are mostly small, and often 0 if they are the
// number of packets of a lost connection that still arrive.
func arguments(o op, r *rand.Rand) (a, b int) {
	small := func() int { return min(r.IntN(8), r.IntN(8)) }
	switch o {
	case publish:
		a, b = r.IntN(8), r.IntN(2)
		if r.IntN(3) == 0 {
			b += 2 * r.IntN(kinds)
		}
	case cut, kill, natsCut, leader:
		a, b = small(), small()
	case answer:
		a, b = small(), max(r.IntN(10)-6, 0)
	case fault:
		a, b = r.IntN(64), r.IntN(1<<12)
	case wait:
		a = min(r.IntN(len(pauses)), r.IntN(2*len(pauses)))
	default:
		a, b = small(), r.IntN(4)
	}
	return a, b
}
