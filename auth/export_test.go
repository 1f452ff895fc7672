package auth

// HashesComputed returns how many password hashes were computed: what an answer's time comes from.
func (s *Service) HashesComputed() int64 { return s.hasher.computed.Load() }

// OccupyHasher takes every turn to compute a hash until release is called.
func (s *Service) OccupyHasher() (release func()) {
	for range hashesAtOnce {
		s.hasher.slots <- struct{}{}
	}
	return func() {
		for range hashesAtOnce {
			<-s.hasher.slots
		}
	}
}

// HashesWaiting is how many attempts wait for their turn before further ones are refused.
const HashesWaiting = hashesWaiting
