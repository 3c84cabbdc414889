package lease

import (
	"context"
	"errors"
	"slices"
	"time"
)

// connected tells whether this replica reaches the broker.
func (k *Keeper) connected() bool {
	for p := range k.holds {
		if k.opts.Lanes.Connected(p) {
			k.served, k.vain, k.vainUntil = true, 0, time.Time{}
			return true
		}
	}
	return len(k.holds) == 0 && k.reached
}

// try finds out whether a replica without any lane reaches the broker, where there are
// others: on that depends whether it is given a share.
func (k *Keeper) try(ctx context.Context, now time.Time) {
	if len(k.holds) > 0 {
		k.reached = false // its lanes tell
		if !k.out {
			k.unreached = nil
		}
		return
	}
	if now.Before(k.vainUntil) && k.view.reachedByAnother(k.opts.Replica.ID, now) {
		k.leaveAlone(now)
		return
	}
	if k.endTrial != nil || k.leaving || now.Before(k.tryAt) || len(k.view.present(now)) < 2 {
		return
	}
	ctx, k.endTrial = context.WithCancel(ctx)
	k.wait.Go(func() { k.tried <- k.opts.Lanes.Try(ctx) })
}

// stepOutOrIn decides whether this replica is out (see Replica.Out). Where all are, none
// is; but those that come back with the store are waited for.
func (k *Keeper) stepOutOrIn(members []string, now time.Time) {
	r := k.view.replicas[k.opts.Replica.ID]
	if r.Out != k.out {
		return // what this replica said last has not come back yet
	}
	member := slices.Contains(members, r.ID)
	believed := r.trusted(now, k.ttl) || r.Connected && k.taken == 0 // which never lost any
	if !k.out && !member || k.out && (believed || member && !now.Before(k.quietUntil)) {
		k.out = !k.out
		k.renewAt = time.Time{} // the others are to know at once
		if k.out && !k.served {
			k.inVain(now)
		}
		k.served = false
	}
}

// vainPause is how long a replica whose lanes never connected leaves the broker alone
// when that happens a second time, and twice as long each time after, up to maxVain;
// but only as long as another has the broker.
const (
	vainPause = 2 * time.Minute
	maxVain   = 30 * time.Minute
)

var errVain = errors.New("a trial of the broker goes well, but of the lanes that it is given then none connects")

// inVain puts the next trial off: it says nothing of what keeps the lanes, and to give
// them to this replica costs their devices' messages a wait each time.
func (k *Keeper) inVain(now time.Time) {
	if k.taken == 0 {
		return // it had none
	}
	if k.vain++; k.vain < 2 {
		return
	}
	k.vainUntil = now.Add(min(vainPause<<min(k.vain-2, 10), maxVain))
	k.leaveAlone(now)
}

// leaveAlone: what a trial found while nobody had the broker does not count either.
func (k *Keeper) leaveAlone(now time.Time) {
	if k.reached {
		k.reached, k.renewAt = false, time.Time{} // the others are to know at once
	}
	if k.unreached == nil {
		k.unreachedAt = now
		k.opts.Log.Error().Str("component", "leases").AnErr("problem", errVain).Msg("this replica's lanes do not connect, and it is given partitions seldom")
	}
	k.unreached = errVain
}

// learn is told how a trial went.
func (k *Keeper) learn(err error) {
	k.endTrial()
	k.endTrial, k.tryAt = nil, time.Now().Add(k.ttl)
	if len(k.holds) > 0 || k.leaving {
		return
	}
	if k.reached != (err == nil) {
		k.renewAt = time.Time{} // the others are to know at once
	}
	k.reached = err == nil
	if err == nil {
		k.unreached = nil
		return
	}
	if k.unreached == nil {
		k.unreachedAt = time.Now()
		k.opts.Log.Warn().Str("component", "leases").AnErr("problem", err).Msg("this replica cannot reach the broker and is given no partitions")
	}
	k.unreached = err
}
