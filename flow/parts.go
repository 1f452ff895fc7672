package flow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/integrator-go/integrator/connector"
	"github.com/integrator-go/integrator/store"
	"github.com/integrator-go/integrator/transform"
)

// parts is the work of one run that is committed after every so many records of its source. A part ends before the first record whose
// index is a multiple of that number, whatever the steps have left out or rejected until there: every attempt cuts at the same places.
//
// With a source that is the same in every attempt, each part is committed with its end and with what became of its records. The next
// attempt decodes the payload again, and of the records before that end gives the steps none: those that were rejected are rejected
// again for the reason that was noted, the others were written or left out. So the run's counters and rejects are those of one attempt
// that nothing disturbed, also when a step would decide otherwise today. With any other source each attempt begins at the first record.
type parts struct {
	job     *job
	output  *output
	told    Observer
	writer  connector.PartWriter
	every   int64
	resumes bool // the source is the same in every attempt

	works   *works         // of the open part; nil: none is open
	part    connector.Part // the work of works
	applied bool           // the run was found complete: nothing is written any more
	before  before         // what is noted about it then
	dirty   bool           // records were written to the open part
	limit   int64          // index of the first record behind the open part
	note    partNote       // about the open part

	start   int64 // what became of records with a lower index was decided by an earlier attempt
	rejects *rejectedBefore
}

// partNote is what a part keeps about its records, and about those before them since the last part.
type partNote struct {
	Attempt int        `json:"attempt"`
	Written int64      `json:"written"`
	Untaken int64      `json:"untaken,omitempty"`
	Rejects []Rejected `json:"rejects,omitempty"`
}

// executeParts carries out one attempt of a job whose destinations are committed in parts.
func (r *Runner) executeParts(j *job) error {
	o := &j.plan.outputs[0]
	p := &parts{job: j, output: o, told: r.options.Observer, writer: o.writer.(connector.PartWriter), every: o.commit, resumes: j.plan.resumes(), limit: o.commit}
	p.note.Attempt = j.run.Attempts
	defer p.close()
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.resume(r); err != nil {
		return err
	}
	j.parts, j.rejects.note = p, p.reject
	err := r.stream(j, func(b *transform.Batch) error {
		if err := p.write(b); err != nil {
			return err
		}
		return j.answer(b)
	})
	if err != nil {
		return err
	}
	if err := j.finish(); err != nil {
		return err
	}
	if err := context.Cause(j.ctx); err != nil {
		return err
	}
	return p.end(r)
}

// begin opens a part.
func (p *parts) begin() error {
	part, err := p.writer.BeginPart(p.job.ctx)
	if err != nil {
		return p.fail(err)
	}
	p.part, p.dirty = part, false
	p.works = &works{ctx: p.job.ctx, plan: p.job.plan, observer: p.told}
	p.works.add(part, len(p.output.targets))
	return p.works.start(p.job)
}

// open opens a part when none is open.
func (p *parts) open() error {
	if p.works != nil {
		return nil
	}
	if err := p.begin(); err != nil {
		return err
	}
	if p.works.applied[0] {
		return p.fail(errors.New("another attempt of the run has ended it"))
	}
	return nil
}

func (p *parts) fail(err error) error {
	return fail(p.job.ctx, p.job.plan.Name, p.output.connection, err)
}

// close releases what the attempt held.
func (p *parts) close() {
	p.rollback()
	if p.rejects != nil {
		p.rejects.close()
	}
}

// rollback undoes the open part.
func (p *parts) rollback() {
	if p.works != nil {
		p.works.rollback()
		p.works, p.part = nil, nil
	}
}

// resume finds out how far earlier attempts of the run have come.
func (p *parts) resume(r *Runner) error {
	j := p.job
	p.applied, p.before = p.works.applied[0], p.works.before[0]
	last := 0 // attempt that committed a part
	if p.resumes {
		p.rejects = &rejectedBefore{runner: r, spool: store.NewSpool(j.ctx, r.store)}
		err := p.part.Checkpoints(func(c connector.Checkpoint) error {
			var note partNote
			if err := json.Unmarshal(c.Note, &note); err != nil {
				return Permanent(fmt.Errorf("read what is noted about the records before %d: %w", c.Position+1, err))
			}
			p.start, last = c.Position, note.Attempt
			j.committed += note.Written
			j.untaken += note.Untaken
			return p.rejects.add(note.Rejects)
		})
		if err == nil {
			err = p.rejects.rewind(j.ctx)
		}
		if err != nil {
			return p.fail(err)
		}
	}
	if p.applied {
		p.rollback()
	}
	if !p.applied && j.run.Crashes >= maxCrashes && j.run.Attempts-last >= maxCrashes {
		return &Failure{Flow: j.run.Flow, Kind: KindInternal, Err: crashedTooOften(j.run)}
	}
	if p.start > 0 {
		p.rollback() // the database is nobody's while the payload is read up to there
		p.limit, j.run.Written = p.start+p.every, j.committed
		j.log.add("goes on behind record %d: earlier attempts have committed %d records", p.start, j.committed)
	}
	return nil
}

// next returns how many of the records are of one part, and commits the part before them when they begin another.
func (p *parts) next(records []transform.Record) (int, error) {
	if first := records[0].Index; first >= p.limit {
		end := first - first%p.every
		if err := p.commit(end); err != nil {
			return 0, err
		}
		p.limit = end + p.every
	}
	if n := slices.IndexFunc(records, func(r transform.Record) bool { return r.Index >= p.limit }); n >= 0 {
		return n, nil
	}
	return len(records), nil
}

// write writes records of the open part.
func (p *parts) write(b *transform.Batch) error {
	j := p.job
	if p.applied {
		p.before.mark(b)
		err := j.sift(p.output.connection, b)
		j.run.Written += int64(len(b.Records))
		return err
	}
	if err := p.open(); err != nil {
		return err
	}
	p.dirty = true
	written, untaken := j.run.Written, j.untaken
	if err := p.works.write(j, b); err != nil {
		return err
	}
	p.note.Written += j.run.Written - written
	p.note.Untaken += j.untaken - untaken
	return nil
}

// reject notes a rejected record.
func (p *parts) reject(r Rejected) {
	if p.resumes && r.Record > p.start { // those before were noted
		p.note.Rejects = append(p.note.Rejects, r)
	}
}

// commit commits the open part, which ends before the record with that index. One that has nothing to keep stays open. A run that was found complete may have been
// committed as one part with those of other runs, although its records are of several: those of a replay keep the places that they had.
func (p *parts) commit(end int64) error {
	if p.applied || !p.dirty && len(p.note.Rejects) == 0 {
		return nil
	}
	if err := context.Cause(p.job.ctx); err != nil {
		return p.fail(err)
	}
	if err := p.open(); err != nil {
		return err
	}
	c := connector.Checkpoint{}
	if p.resumes {
		slices.SortFunc(p.note.Rejects, func(a, b Rejected) int { return cmp.Compare(a.Record, b.Record) }) // steps were before destinations, batch by batch
		note, err := json.Marshal(p.note)
		if err != nil {
			return p.fail(err)
		}
		c = connector.Checkpoint{Position: end, Note: note}
	}
	if err := p.works.delivered(p.output.connection, func() error { return p.part.Checkpoint(c) }); err != nil {
		return p.fail(err)
	}
	p.works.done = true
	p.works, p.part, p.dirty = nil, nil, false
	p.job.committed += p.note.Written
	p.note = partNote{Attempt: p.note.Attempt}
	return nil
}

// end commits the last part, and with it the run.
func (p *parts) end(r *Runner) error {
	if p.applied {
		return nil
	}
	if err := p.open(); err != nil {
		return err
	}
	if err := p.works.conclude(r, p.job); err != nil {
		return err
	}
	if _, err := p.works.commit(); err != nil {
		return p.fail(err)
	}
	return nil
}

// rejectedBefore is what earlier attempts of a run rejected, in the order of the records.
type rejectedBefore struct {
	runner  *Runner
	spool   *store.Spool
	body    store.Body
	reader  io.Closer
	decoder *json.Decoder
	next    Rejected // Record is 0 when there is none
}

func (r *rejectedBefore) add(list []Rejected) error {
	encoder := json.NewEncoder(r.spool)
	for _, rejected := range list {
		if err := encoder.Encode(rejected); err != nil {
			return err
		}
	}
	return nil
}

// rewind ends the collection: the first of them is the next.
func (r *rejectedBefore) rewind(ctx context.Context) (err error) {
	if r.body, err = r.spool.Body(); err != nil {
		return err
	}
	reader, err := r.runner.store.OpenBody(ctx, r.body)
	if err != nil {
		return err
	}
	r.reader, r.decoder = reader, json.NewDecoder(reader)
	return r.advance()
}

func (r *rejectedBefore) advance() error {
	r.next = Rejected{}
	if err := r.decoder.Decode(&r.next); err != nil && err != io.EOF {
		return err
	}
	return nil
}

func (r *rejectedBefore) close() {
	if r.reader != nil {
		r.reader.Close() // it was only read
	}
	r.spool.Abort()
	r.runner.store.Discard(context.WithoutCancel(r.runner.working), r.body) // what stays is swept when the store is opened next
}

// behind is the rest of a source: of the records about which earlier attempts have decided, only the rejected ones are given.
type behind struct {
	connector.Records
	parts *parts
}

// Decode fills b with the next records.
func (s *behind) Decode(b *transform.Batch) error {
	for {
		if err := context.Cause(s.parts.job.ctx); err != nil {
			return err
		}
		err := s.Records.Decode(b)
		if err != nil || len(b.Records) == 0 || b.Records[0].Index >= s.parts.start {
			return err
		}
		kept := b.Records[:0]
		for _, record := range b.Records {
			before := s.parts.rejects
			switch next := before.next; {
			case record.Index >= s.parts.start:
			case next.Record == record.Index+1:
				record.Err = next.fault()
				if err := before.advance(); err != nil {
					return err
				}
			default:
				continue
			}
			kept = append(kept, record)
		}
		clear(b.Records[len(kept):])
		if b.Records = kept; len(kept) > 0 {
			return nil
		}
	}
}
