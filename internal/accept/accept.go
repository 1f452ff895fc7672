// Package accept chooses between representations as the header Accept asks for them (RFC 9110 section 12.5.1).
package accept

import (
	"mime"
	"strconv"
	"strings"
)

// Choose returns which of the media types that are offered the values of Accept want most, the first of equals; -1 when they want none. Without
// Accept, or when nothing of it can be read, it is the first.
func Choose(accept []string, offered []string) int {
	var ranges []mediaRange
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		if r, ok := parse(part); ok {
			ranges = append(ranges, r)
		}
	}
	if ranges == nil {
		return 0
	}
	best, chosen := 0.0, -1
	for i, offer := range offered {
		if q := quality(ranges, offer); q > best {
			best, chosen = q, i
		}
	}
	return chosen
}

// mediaRange is one item of Accept: type/subtype, type/* or */*.
type mediaRange struct {
	kind, sub string
	params    map[string]string
	q         float64
}

func parse(item string) (r mediaRange, ok bool) {
	media, params, err := mime.ParseMediaType(item)
	if err != nil {
		return r, false
	}
	r.kind, r.sub, ok = strings.Cut(media, "/")
	if !ok || r.kind == "*" && r.sub != "*" {
		return r, false
	}
	r.q, r.params = 1, params
	if q, given := params["q"]; given {
		if r.q, err = strconv.ParseFloat(q, 64); err != nil || !(r.q >= 0 && r.q <= 1) {
			return r, false
		}
		delete(params, "q")
	}
	return r, true
}

// quality returns how much an offer is wanted: the most specific range that it fits says so.
func quality(ranges []mediaRange, offer string) float64 {
	media, params, err := mime.ParseMediaType(offer)
	if err != nil {
		return 0
	}
	kind, sub, _ := strings.Cut(media, "/")
	q, most := 0.0, -1
	for _, r := range ranges {
		specific := 0
		switch {
		case r.kind == "*":
		case r.kind != kind:
			continue
		case r.sub == "*":
			specific = 1
		case r.sub != sub:
			continue
		default:
			specific = 2 + len(r.params)
		}
		if r.fits(params) && specific > most {
			q, most = r.q, specific
		}
	}
	return q
}

// fits reports whether an offer has the parameters that the range asks for. UTF-8 is what a type without charset is in as well.
func (r *mediaRange) fits(params map[string]string) bool {
	for name, value := range r.params {
		have, ok := params[name]
		if !ok && name == "charset" {
			have = "utf-8"
		}
		if !strings.EqualFold(have, value) {
			return false
		}
	}
	return true
}
