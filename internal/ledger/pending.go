package ledger

import (
	"context"

	"github.com/rewarm/rewarm/internal/index"
)

// PendingByClass counts the jobs of each class that are queued or being done,
// of all realms; it fails before somebody has asked for a job of each. What it
// costs does not grow with the queue.
func (l *Ledger) PendingByClass(ctx context.Context) (map[index.Class]int, error) {
	pending := map[index.Class]int{}
	// Not by way of l.queue: its lock is held for as long as a store that says
	// nothing is waited for.
	err := l.bounded(ctx, func(ctx context.Context) error {
		for _, class := range index.Classes() {
			consumer, err := l.js.Consumer(ctx, queueName, class.String())
			if err != nil {
				return err
			}
			info := consumer.CachedInfo() // of this moment: it was asked for
			pending[class] = int(info.NumPending) + info.NumAckPending
		}
		return nil
	})
	if err != nil {
		return nil, classify(ctx, "count jobs by class", err)
	}
	return pending, nil
}
