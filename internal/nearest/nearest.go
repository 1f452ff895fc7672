// Package nearest finds the name that somebody who misspelt one most likely meant.
package nearest

import "strings"

// Name returns the name that is most like the given one, "" when none is like it: a third of its characters may differ, one of two, half of them behind the
// same beginning, and one may be the other's beginning.
func Name(name string, names []string) string {
	best, distance := "", len(name)/2+1
	name = strings.ToLower(name)
	for _, n := range names {
		other := strings.ToLower(n)
		d, most := editDistance(name, other), max(len(name)/3, min(len(name)/2, 1))
		switch short := min(len(name), len(other)); {
		case short >= 3 && name[:short] == other[:short]:
			d = min(d, most)
		case short >= 3 && name[:3] == other[:3]:
			most = len(name) / 2
		}
		if d <= most && d < distance {
			best, distance = n, d
		}
	}
	return best
}

// editDistance counts the characters to insert, delete, replace, or swap with their neighbour.
func editDistance(a, b string) int {
	former, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		former, last, row = last, row, former
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], former[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
