package pipeline

import "context"

// Notice says on changed that something of a resource has changed, or is known for the first time. changed has room for one word, which
// stands for all changes until it is received. It returns when ctx or the watch ends.
func (p *Pipeline) Notice(ctx context.Context, ref Ref, changed chan<- struct{}) error {
	s, err := p.Watch(ctx, &Request{Verb: Watch, Caller: System(), SendInitialEvents: true, Ref: ref})
	if err != nil {
		return err
	}
	defer s.Cursor.Close()
	for {
		if _, err := s.Cursor.Next(ctx); err != nil {
			return err
		}
		select {
		case changed <- struct{}{}:
		default: // what has been said is still to be received
		}
	}
}
