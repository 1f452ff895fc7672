package flow

import (
	"strings"
	"testing"
	"time"
)

// TestCron lists the times that follow each other.
func TestCron(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, cron, zone, from, want string }{
		{"daily", "0 2 * * *", "UTC", "2026-01-31T01:59:59Z", "2026-01-31T02:00:00Z 2026-02-01T02:00:00Z"},
		{"strictly after", "0 2 * * *", "UTC", "2026-01-31T02:00:00Z", "2026-02-01T02:00:00Z"},
		{"lists, ranges, steps, names", "0,30 8-9 1-7/3 jan-MAR mon,2", "UTC", "2026-01-06T09:00:00Z", "2026-01-06T09:30:00Z 2026-01-07T08:00:00Z"},
		{"step from a value", "50/5 0 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:50:00Z 2026-01-01T00:55:00Z 2026-01-02T00:50:00Z"},
		{"the 13th or a Friday", "0 0 13 * 5", "UTC", "2026-02-10T00:00:00Z", "2026-02-13T00:00:00Z 2026-02-20T00:00:00Z 2026-02-27T00:00:00Z 2026-03-06T00:00:00Z 2026-03-13T00:00:00Z"},
		{"Sunday is 0 and 7", "0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z 2026-01-11T00:00:00Z"},
		{"29 February", "0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z 2032-02-29T00:00:00Z"},
		{"29 February over a century", "0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"by name", "@monthly", "UTC", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"},

		{"spring: once, right after the gap", "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00"},
		{"spring: two in the gap are one", "0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00 2026-03-30T02:00:00+02:00"},
		{"autumn: once, the first time", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
		{"autumn: from between the two", "30 2 * * *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", "2026-10-26T02:30:00+01:00"},
		{"spring: wild ones follow real time", "*/30 * * * *", "Europe/Berlin", "2026-03-29T01:15:00+01:00", "2026-03-29T01:30:00+01:00 2026-03-29T03:00:00+02:00 2026-03-29T03:30:00+02:00"},
		{"autumn: wild ones run in both hours", "30 * * * *", "Europe/Berlin", "2026-10-25T01:45:00+02:00", "2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00 2026-10-25T03:30:00+01:00"},
		{"a gap of half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", "2026-10-04T02:30:00+11:00 2026-10-05T02:15:00+11:00"},
		{"half an hour twice", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00+11:00", "2026-04-05T01:45:00+11:00 2026-04-06T01:45:00+10:30"},
		{"half an hour twice, wild", "45 * * * *", "Australia/Lord_Howe", "2026-04-05T01:00:00+11:00", "2026-04-05T01:45:00+11:00 2026-04-05T01:45:00+10:30 2026-04-05T02:45:00+10:30"},
		{"a day that was not", "0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00-10:00", "2011-12-31T00:00:00+14:00 2012-12-30T12:00:00+14:00"},
		{"a day that was not, wild", "0 */12 * * *", "Pacific/Apia", "2011-12-29T13:00:00-10:00", "2011-12-31T00:00:00+14:00 2011-12-31T12:00:00+14:00"},
		{"midnight that is not", "0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00-03:00", "2018-11-04T01:00:00-02:00 2018-11-05T00:00:00-02:00"},
		{"a change a minute after midnight", "59 1,2 * * *", "America/St_Johns", "2011-03-12T12:00:00-03:30", "2011-03-13T01:59:00-02:30 2011-03-13T02:59:00-02:30"},
		{"a change a minute after midnight, wild", "*/59 1,2 * * *", "America/St_Johns", "2011-03-12T12:00:00-03:30", "2011-03-13T01:59:00-02:30 2011-03-13T02:00:00-02:30"},
		{"midnight that is not, wild", "*/20 0 * * *", "America/Sao_Paulo", "2018-11-03T00:30:00-03:00", "2018-11-03T00:40:00-03:00 2018-11-05T00:00:00-02:00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c, err := parseCron(row.cron)
			if err != nil {
				t.Fatal(err)
			}
			zone, err := time.LoadLocation(row.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, row.from)
			if err != nil {
				t.Fatal(err)
			}
			at = at.In(zone)
			var got []string
			for range strings.Fields(row.want) {
				at = c.next(at)
				got = append(got, at.Format(time.RFC3339))
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), row.want)
			}
		})
	}
}

func TestCronRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":               "here are 0",
		"0 2 * *":        "here are 4",
		"60 * * * *":     `minute: "60" is not between 0 and 59`,
		"* 24 * * *":     "hour",
		"* * 0 * *":      "day of the month",
		"* * * foo *":    "month",
		"* * * * 8":      "day of the week",
		"5-1 * * * *":    "goes backwards",
		"*/0 * * * *":    "no step",
		"*/x * * * *":    "no step",
		"0 0 30 2 *":     "no such day",
		"0 0 31 4,6,9 *": "no such day",
		"@often":         "@often is not known: there are",
	} {
		if _, err := parseCron(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzCron checks each expression against a clock that ticks: no time is left out, none is made up.
func FuzzCron(f *testing.F) {
	f.Add("*/7 3-5 * * 1-5", int64(1_774_742_400), true)
	f.Add("30 2 29 * *", int64(1_792_886_400), false)
	f.Fuzz(func(t *testing.T, text string, unix int64, berlin bool) {
		c, err := parseCron(text)
		if err != nil {
			t.Skip()
		}
		zone := time.UTC
		if berlin {
			if zone, err = time.LoadLocation("Europe/Berlin"); err != nil {
				t.Fatal(err)
			}
		}
		from := time.Unix(unix%4_000_000_000, 0).In(zone)
		next := c.next(from)
		if !next.After(from) {
			t.Fatalf("%q after %s is %s", text, from, next)
		}
		if zone != time.UTC && !c.wild {
			return // a clock that ticks does not know gaps and repetitions
		}
		for at := from.Truncate(time.Minute).Add(time.Minute); at.Sub(from) < 3*24*time.Hour; at = at.Add(time.Minute) {
			shows := c.onDay(at) && c.hour>>at.Hour()&1 == 1 && c.minute>>at.Minute()&1 == 1
			if shows != at.Equal(next) && !at.After(next) {
				t.Fatalf("%q after %s is %s; the clock says %v at %s", text, from, next, shows, at)
			}
			if at.Equal(next) {
				return
			}
		}
	})
}
