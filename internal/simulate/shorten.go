package simulate

// shorten removes unnecessary events from a failing schedule. It tries ever smaller pieces, keeps a
// removal if the rest still fails, and stops after the given number of attempts.
func shorten(s schedule, attempts int, fails func(schedule) bool) schedule {
	for piece := len(s.events) / 2; piece > 0; {
		smaller := false
		for at := 0; at < len(s.events) && attempts > 0; {
			shorter := schedule{setup: s.setup}
			shorter.events = append(shorter.events, s.events[:at]...)
			shorter.events = append(shorter.events, s.events[min(at+piece, len(s.events)):]...)
			attempts--
			if fails(shorter) {
				s, smaller = shorter, true
			} else {
				at += piece
			}
		}
		if attempts == 0 {
			break
		}
		if !smaller || piece > 1 {
			piece /= 2
		}
	}
	return s
}
