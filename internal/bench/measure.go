package main

import (
	"fmt"
	"slices"
	"strings"
)

// side is one of the things that a case compares. measure returns its figure.
type side struct {
	name    string
	measure func() (float64, error)
}

// figures are what a side was measured at, round by round.
type figures []float64

// alternate measures all sides in each round, after one round that does not count.
func alternate(rounds int, sides ...side) ([]figures, error) {
	all := make([]figures, len(sides))
	for round := range rounds + 1 {
		for i, s := range sides {
			figure, err := s.measure()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 {
				all[i] = append(all[i], figure)
			}
		}
	}
	return all, nil
}

func (f figures) median() float64 {
	sorted := slices.Sorted(slices.Values(f))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// over returns the ratios to a reference, round by round.
func (f figures) over(reference figures) figures {
	ratios := make(figures, len(f))
	for i := range f {
		ratios[i] = f[i] / reference[i]
	}
	return ratios
}

// mean returns the means of two measurements of a reference, round by round: what the machine did in between lies there too.
func mean(before, after figures) figures {
	means := make(figures, len(before))
	for i := range means {
		means[i] = (before[i] + after[i]) / 2
	}
	return means
}

// String returns the median with the least and the largest.
func (f figures) String() string {
	return fmt.Sprintf("%10s  (%s – %s)", short(f.median()), short(slices.Min(f)), short(slices.Max(f)))
}

func short(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// tell prints what was measured.
func tell(what string, f figures, unit string) { row(what, fmt.Sprintf("%v %s", f, unit)) }

// row prints one line of a case.
func row(what, text string) { fmt.Printf("    %-40s %s\n", what, text) }

// target is what a figure should reach.
type target struct {
	bound float64
	most  bool // the figure should be at most the bound, not at least
}

func atLeast(bound float64) target { return target{bound, false} }
func atMost(bound float64) target  { return target{bound, true} }

// judge prints a figure beside its target.
func judge(what string, f figures, unit string, t target) {
	sign, reached := "≥", f.median() >= t.bound
	if t.most {
		sign, reached = "≤", f.median() <= t.bound
	}
	verdict := "reached"
	if !reached {
		verdict = "MISSED"
	}
	row(what, strings.TrimRight(fmt.Sprintf("%v %s", f, unit), " ")+fmt.Sprintf("   target %s %s: %s", sign, short(t.bound), verdict))
}
