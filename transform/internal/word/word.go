// Package word looks at eight bytes of a text at a time, as one number whose lowest byte is the first. What it finds are marks: a number with the
// high bit of each byte that was looked for; 0: none is there. Of several marks the first is right, those behind it may be wrong.
package word

import "math/bits"

// Size is how many bytes a word has.
const Size = 8

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// At returns the word that begins at s[i].
func At(s string, i int) uint64 {
	s = s[i : i+Size]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// Half returns the word of a text that is shorter than one and has at least half of it: bytes in the middle may come twice.
func Half(s string) uint64 {
	t := s[len(s)-Size/2:]
	s = s[:Size/2]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(t[0])<<32 | uint64(t[1])<<40 | uint64(t[2])<<48 | uint64(t[3])<<56
}

// Of returns the word that has the byte eight times.
func Of(c byte) uint64 { return ones * uint64(c) }

// Same marks the bytes that are the same in both words.
func Same(w, v uint64) uint64 {
	x := w ^ v
	return (x - ones) &^ x & highs
}

// Below marks the bytes that are below n, which is at most 128.
func Below(w uint64, n byte) uint64 { return (w - ones*uint64(n)) &^ w & highs }

// High marks the bytes that are no ASCII.
func High(w uint64) uint64 { return w & highs }

// First returns the place of the first mark in its word.
func First(marks uint64) int { return bits.TrailingZeros64(marks) / 8 }
