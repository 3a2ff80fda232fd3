package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rewarm/rewarm/internal/index"
)

const (
	queueName = "rewarm_index"
	// queueBytes bounds the queue on disk: half a million jobs.
	queueBytes = 256 << 20
	ackWait    = 15 * time.Second
	// fetchWait is how long one look at an empty queue waits for a job; a request
	// that is lost with a connection delays a job by no more.
	fetchWait = 10 * time.Second
	// maxHeld is how many jobs of a class may be out or waiting to be tried again:
	// any number, for those of a realm that is down would keep all others waiting.
	maxHeld = -1
	// maxBatch bounds how many jobs are on their way to the store at a time: what
	// else is asked of the queue waits behind them. A server takes 1000 in one batch.
	maxBatch = 500
	// fewJobs are published one by one: a batch costs the server files of its own.
	fewJobs = 10
)

// queue is the stream of index jobs and its consumer for each class, made when
// they are first needed.
type queue struct {
	replicas int
	ackWait  time.Duration

	mu        sync.Mutex
	stream    jetstream.Stream
	consumers map[index.Class]jetstream.Consumer
}

// jobSubject is the job's identity: there is one job at a time for a page of a
// release in a class.
func jobSubject(j index.Job) string {
	return fmt.Sprintf("rewarm.index.%d.%s.%s.%s", j.Class, realmID(j.Realm), tokenKey(j.Token), digest(j.URL))
}

func (q *queue) open(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stream != nil {
		return q.stream, nil
	}
	stream, err := js.Stream(ctx, queueName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: queueName, Subjects: []string{"rewarm.index.>"}, Retention: jetstream.WorkQueuePolicy,
			Discard: jetstream.DiscardNew, MaxBytes: queueBytes, Replicas: q.replicas, AllowAtomicPublish: true,
		})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = js.Stream(ctx, queueName)
		}
	}
	if err != nil {
		return nil, err
	}
	q.stream, q.consumers = stream, map[index.Class]jetstream.Consumer{}
	return stream, nil
}

func (q *queue) consumer(ctx context.Context, js jetstream.JetStream, class index.Class) (jetstream.Consumer, error) {
	stream, err := q.open(ctx, js)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.consumers[class]; c != nil {
		return c, nil
	}
	c, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: class.String(), FilterSubject: fmt.Sprintf("rewarm.index.%d.>", class),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.ackWait, MaxDeliver: -1, MaxAckPending: maxHeld,
	})
	if err == nil {
		q.consumers[class] = c
	}
	return c, err
}

func (q *queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stream, q.consumers = nil, nil
}

// onQueue runs one operation on the queue, bounded, and once more when the
// queue had vanished.
func (l *Ledger) onQueue(ctx context.Context, op string, f func(context.Context) error) error {
	err := l.bounded(ctx, f)
	if (gone(err) || errors.Is(err, jetstream.ErrConsumerNotFound)) && ctx.Err() == nil {
		l.queue.forget()
		err = l.bounded(ctx, f)
	}
	return classify(ctx, op, err)
}

// QueueJobs puts jobs into the queue, in this order, and returns how many are
// new: a job that is there already, or being done, is not queued again. After
// an error some of them may be in the queue; queueing them again does no harm.
func (l *Ledger) QueueJobs(ctx context.Context, jobs ...index.Job) (queued int, err error) {
	for len(jobs) > 0 {
		batch := jobs[:min(maxBatch, len(jobs))]
		jobs = jobs[len(batch):]
		err := l.onQueue(ctx, "queue jobs", func(ctx context.Context) error {
			n, err := l.publish(ctx, batch)
			queued += n
			return err
		})
		if err != nil {
			return queued, err
		}
	}
	return queued, nil
}

func (l *Ledger) publish(ctx context.Context, jobs []index.Job) (queued int, err error) {
	stream, err := l.queue.open(ctx, l.js)
	if err != nil {
		return 0, err
	}
	messages := make([]*nats.Msg, len(jobs))
	for i, job := range jobs {
		job.Version = version
		value, err := json.Marshal(job)
		if err != nil || job.Realm == "" || job.Token == "" {
			return 0, fmt.Errorf("%w: a job needs a realm and a token", ErrInvalid)
		}
		messages[i] = &nats.Msg{Subject: jobSubject(job), Data: value}
	}
	// A batch is synced once. The server takes it only if all its jobs are new: as
	// nearly always, for a run begins when the one before has ended.
	if len(jobs) > fewJobs && stream.CachedInfo().Config.AllowAtomicPublish {
		err := l.publishBatch(ctx, messages)
		if err == nil {
			return len(jobs), nil
		}
		if _, refused := errors.AsType[*jetstream.APIError](err); !refused {
			return 0, err // it may be taken yet, and what is said of its jobs now may not last
		}
		l.log.Debug("jobs are queued one by one", "jobs", len(jobs), "err", err)
	}
	return l.publishEach(ctx, messages)
}

func (l *Ledger) publishBatch(ctx context.Context, messages []*nats.Msg) error {
	batch := make([]*nats.Msg, len(messages))
	for i, m := range messages {
		batch[i] = &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"0"}}}
	}
	_, err := jetstreamext.PublishMsgBatch(ctx, l.js, batch)
	return err
}

func (l *Ledger) publishEach(ctx context.Context, messages []*nats.Msg) (queued int, err error) {
	futures := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		// Nothing under its subject yet: that is what makes it new.
		if futures[i], err = l.js.PublishMsgAsync(m, jetstream.WithExpectLastSequencePerSubject(0)); err != nil {
			return 0, err
		}
	}
	var errs []error
	for _, future := range futures {
		select {
		case <-future.Ok():
			queued++
		case err := <-future.Err():
			if e, ok := errors.AsType[jetstream.JetStreamError](err); !ok || e.APIError() == nil || e.APIError().ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
				errs = append(errs, err)
			}
		case <-ctx.Done():
			return queued, context.Cause(ctx)
		}
	}
	return queued, errors.Join(errs...)
}

// QueuedJob is a job that this process has to do. It goes to another worker if
// it is neither kept nor ended for [Ledger.AckWait].
type QueuedJob struct {
	index.Job
	Deliveries int // how often it was handed out, this time included
	msg        jetstream.Msg
	ledger     *Ledger
}

// NextJob waits for a job of a class for some seconds; found is false when none
// came. A job that cannot be read is taken out of the queue and logged.
func (l *Ledger) NextJob(ctx context.Context, class index.Class) (job *QueuedJob, found bool, err error) {
	var batch jetstream.MessageBatch
	err = l.onQueue(ctx, "next job", func(ctx context.Context) error {
		consumer, err := l.queue.consumer(ctx, l.js, class)
		if err != nil {
			return err
		}
		batch, err = consumer.Fetch(1, jetstream.FetchMaxWait(fetchWait))
		return err
	})
	if err != nil {
		return nil, false, err
	}
	select {
	case msg, ok := <-batch.Messages():
		if ok {
			return l.readJob(msg)
		}
	case <-ctx.Done():
		return nil, false, context.Cause(ctx) // what comes now is redelivered
	}
	if err := batch.Error(); err != nil {
		l.queue.forget()
		return nil, false, classify(ctx, "next job", err)
	}
	return nil, false, nil
}

func (l *Ledger) readJob(msg jetstream.Msg) (*QueuedJob, bool, error) {
	q := &QueuedJob{msg: msg, ledger: l, Deliveries: 1}
	if about, err := msg.Metadata(); err == nil {
		q.Deliveries = int(about.NumDelivered)
	}
	if err := json.Unmarshal(msg.Data(), &q.Job); err != nil || q.Realm == "" || q.Token == "" {
		l.log.Warn("job cannot be read", "subject", msg.Subject(), "err", err)
		return nil, false, classify(context.Background(), "drop job", msg.Term())
	}
	return q, true, nil
}

// AckWait is how long after its last sign of life a job goes to another worker.
func (l *Ledger) AckWait() time.Duration { return l.queue.ackWait }

// Keep says that the job is still being done.
func (q *QueuedJob) Keep() error { return q.msg.InProgress() }

// End takes the job out of the queue, and returns once it is out.
func (q *QueuedJob) End(ctx context.Context) error {
	return q.ledger.onQueue(ctx, "end job", func(ctx context.Context) error { return q.msg.DoubleAck(ctx) })
}

// Again gives the job back, to be handed out when the time has passed.
func (q *QueuedJob) Again(after time.Duration) error {
	if after <= 0 {
		return q.msg.Nak()
	}
	return q.msg.NakWithDelay(after)
}

// PendingJobs counts a realm's jobs that are queued or being done.
func (l *Ledger) PendingJobs(ctx context.Context, realm string) (n int, err error) {
	err = l.onQueue(ctx, "count jobs", func(ctx context.Context) error {
		stream, err := l.queue.open(ctx, l.js)
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter("rewarm.index.*."+realmID(realm)+".>"))
		if err != nil {
			return err
		}
		n = 0
		for _, count := range info.State.Subjects {
			n += int(count)
		}
		return nil
	})
	return n, err
}
