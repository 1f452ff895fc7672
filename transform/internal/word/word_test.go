package word_test

import (
	"math/rand/v2"
	"testing"

	"github.com/integrator-go/integrator/transform/internal/word"
)

// TestWord compares what is found in words with what a loop over their bytes finds.
func TestWord(t *testing.T) {
	t.Parallel()
	for range 100_000 {
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(rand.IntN(256)) & []byte{0xff, 0x8f, 0x0f}[rand.IntN(3)]
		}
		s, c, n := string(b), b[rand.IntN(8)], byte(1+rand.IntN(128))
		w := word.At("x"+s, 1)
		for name, test := range map[string]struct {
			marks uint64
			is    func(byte) bool
		}{
			"same":  {word.Same(w, word.Of(c)), func(b byte) bool { return b == c }},
			"below": {word.Below(w, n), func(b byte) bool { return b < n }},
			"high":  {word.High(w), func(b byte) bool { return b >= 0x80 }},
		} {
			want := 0
			for want < 8 && !test.is(s[want]) {
				want++
			}
			if got := word.First(test.marks); got != want {
				t.Fatalf("%s in %x (%x, %d): the first is at %d, found at %d", name, s, c, n, want, got)
			}
		}
	}
	for s, want := range map[string]string{"abcd": "abcdabcd", "abcde": "abcdbcde", "abcdefg": "abcddefg"} {
		if word.Half(s) != word.At(want, 0) {
			t.Errorf("the halves of %s are not %s", s, want)
		}
	}
}
