package transform_test

import (
	"strings"
	"testing"
	"time"

	"github.com/integrator-go/integrator/transform"
)

func TestLayout(t *testing.T) {
	t.Parallel()
	utc, zone := time.UTC, berlin(t)
	at := func(zone *time.Location, year int, month time.Month, day, hour, minute, second, nanosecond int) time.Time {
		return time.Date(year, month, day, hour, minute, second, nanosecond, zone)
	}
	for _, row := range []struct {
		name, layout, text string
		zone               *time.Location
		want               time.Time
	}{
		{"ISO date", "yyyy-MM-dd", "2026-01-02", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"ISO time", "yyyy-MM-dd HH:mm:ss", "2026-01-02 13:04:05", utc, at(utc, 2026, 1, 2, 13, 4, 5, 0)},
		{"with T", "yyyy-MM-dd'T'HH:mm:ss", "2026-01-02T13:04:05", utc, at(utc, 2026, 1, 2, 13, 4, 5, 0)},
		{"with a zone", "yyyy-MM-dd'T'HH:mm:ssXXX", "2026-01-02T13:04:05Z", zone, at(utc, 2026, 1, 2, 13, 4, 5, 0)},
		{"with an offset", "yyyyMMddHHmmssXX", "20260102130405+0130", zone, at(time.FixedZone("", 5400), 2026, 1, 2, 13, 4, 5, 0)},
		{"German", "dd.MM.yyyy", "31.12.2026", utc, at(utc, 2026, 12, 31, 0, 0, 0, 0)},
		{"without zeros", "d.M.yyyy", "1.2.2026", utc, at(utc, 2026, 2, 1, 0, 0, 0, 0)},
		{"two digits of the year", "ddMMyy", "010226", utc, at(utc, 2026, 2, 1, 0, 0, 0, 0)},
		{"nothing between", "yyyyMMddHHmmss", "20260102130405", utc, at(utc, 2026, 1, 2, 13, 4, 5, 0)},
		{"month by name", "d MMMM yyyy", "2 January 2026", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"short names", "EEE, dd MMM yyyy", "Fri, 02 Jan 2026", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"day by name", "EEEE dd.MM.yyyy", "Friday 02.01.2026", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"twelve hours", "dd/MM/yyyy hh:mm a", "02/01/2026 01:04 PM", utc, at(utc, 2026, 1, 2, 13, 4, 0, 0)},
		{"milliseconds", "HH:mm:ss.SSS yyyy-MM-dd", "13:04:05.067 2026-01-02", utc, at(utc, 2026, 1, 2, 13, 4, 5, 67e6)},
		{"microseconds", "yyyy-MM-dd HH:mm:ss.SSSSSS", "2026-01-02 13:04:05.000067", utc, at(utc, 2026, 1, 2, 13, 4, 5, 67e3)},
		{"in the flow's zone", "yyyy-MM-dd HH:mm", "2026-07-02 13:04", zone, at(zone, 2026, 7, 2, 13, 4, 0, 0)},
		{"literal text", "'day' dd 'o''clock' HH MM yyyy", "day 02 o'clock 13 01 2026", utc, at(utc, 2026, 1, 2, 13, 0, 0, 0)},
		{"a fraction before digits", ".SSSHHmm yyyyMMdd", ".0671304 20260102", utc, at(utc, 2026, 1, 2, 13, 4, 0, 67e6)},
		{"digits as literal text", "yyyy'20'MM'2006 Jan'dd", "20262001" + "2006 Jan02", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"one thing twice", "yyyy/MM/yyyyMMdd yy", "2026/01/20260102 26", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"a negative offset", "yyyy-MM-dd HH:mmXXX", "2026-01-02 13:04-03:30", utc, at(time.FixedZone("", -12600), 2026, 1, 2, 13, 4, 0, 0)},
		{"midnight of twelve hours", "yyyy-MM-dd hh a", "2026-01-02 12 AM", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
		{"letters of other languages", "yyyy年MM月dd", "2026年01月02", utc, at(utc, 2026, 1, 2, 0, 0, 0, 0)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l, err := transform.ParseLayout(row.layout)
			if err != nil {
				t.Fatal(err)
			}
			got, err := l.Parse(row.text, row.zone)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(row.want) {
				t.Errorf("%s reads as %s, want %s", row.text, got, row.want)
			}
			if text := l.Format(row.want); text != row.text {
				t.Errorf("written as %s, want %s", text, row.text)
			}
			if l.String() != row.layout {
				t.Errorf("the layout is written %s", l)
			}
		})
	}
}

func TestLayoutDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, layout, text string }{
		{"day that does not exist", "yyyy-MM-dd", "2026-02-30"},
		{"month that does not exist", "yyyy-MM-dd", "2026-13-01"},
		{"hour that does not exist", "yyyy-MM-dd HH:mm", "2026-01-01 24:00"},
		{"clock put forward", "yyyy-MM-dd HH:mm", "2026-03-29 02:30"},
		{"something behind", "yyyy-MM-dd", "2026-01-01 "},
		{"something before", "yyyy-MM-dd", " 2026-01-01"},
		{"too short", "yyyy-MM-dd", "2026-1-1"},
		{"empty", "yyyy-MM-dd", ""},
		{"two different years", "yyyy/MM/yyyyMMdd", "2026/01/20270102"},
		{"hour thirteen of twelve", "yyyy-MM-dd hh a", "2026-01-02 13 AM"},
		{"zone without minutes", "yyyy-MM-dd HH:mmXXX", "2026-01-02 13:04+01"},
		{"fraction without digits", "yyyy-MM-dd HH:mm:ss.SSS", "2026-01-02 13:04:05.06"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l, err := transform.ParseLayout(row.layout)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := l.Parse(row.text, berlin(t)); err == nil {
				t.Errorf("%q reads as %s", row.text, got)
			}
		})
	}
}

func TestLayoutRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, layout, want string }{
		{"empty", "", "is empty"},
		{"letters that mean nothing", "YYYY-MM-DD", `letter 'Y'`},
		{"text without quotes", "yyyy-MM-ddTHH:mm", `letter 'T'`},
		{"open quote", "yyyy 'at", "a quote that is not closed"},
		{"no part of a date", "'day'", "holds no part of a date"},
		{"signs only", "--", "holds no part of a date"},
		{"month beside seconds", "Ms", "between them"},
		{"minutes for the month", "yyyymmdd", "mm is minutes, MM the month"},
		{"minutes for the month, with a time", "yyyy-mm-dd HH:mm:ss", "mm is minutes, MM the month"},
		{"minutes for the month of a year", "mm/yy", "mm is minutes, MM the month"},
		{"minutes for the month of a day", "dd.mm.", "mm is minutes, MM the month"},
		{"minutes alone", "mm", "mm is minutes, MM the month"},
		{"minutes of no hour", "yyyy-MM-dd mm", "minutes and no hour"},
		{"the month for minutes", "HH:MM", "MM is the month, mm minutes"},
		{"the month for minutes, with seconds", "HH:MM:ss", "MM is the month, mm minutes"},
		{"the month for minutes, with a date", "yyyy-MM-dd HH:MM", "MM is the month, mm minutes"},
		{"a day of no month", "yyyydd", "a year and a day, and no month"},
		{"an hour of twelve alone", "yyyy-MM-dd hh:mm", "HH is the hour"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := transform.ParseLayout(row.layout); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

// TestLayoutOfAPart has layouts that write, or read, less than a date or a time.
func TestLayoutOfAPart(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 13, 4, 5, 0, time.UTC)
	for layout, want := range map[string]string{"yyyy": "2026", "MM": "01", "dd": "02", "yyyy-MM": "2026-01", "dd.MM.": "02.01.", "HH": "13", "HHmm": "1304", "mm:ss": "04:05", "EEE HH:mm": "Fri 13:04",
		"yyyy-MM-dd HH": "2026-01-02 13", "h a": "1 PM", "ss": "05"} {
		if l, err := transform.ParseLayout(layout); err != nil || l.Format(at) != want {
			t.Errorf("%s: %q %v", layout, l.Format(at), err)
		}
	}
}

func FuzzParseLayout(f *testing.F) {
	for _, seed := range []string{"yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "d.M.yy", "EEE, dd MMM yyyy hh:mm a", "Ms", "'", "yyyy年", "dM", "hs", ".SSSHH"} {
		f.Add(seed, int64(1767361445))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		l, err := transform.ParseLayout(text)
		if err != nil {
			return
		}
		at := time.Unix(unix%(1<<35), 0).UTC()
		written := l.Format(at)
		read, err := l.Parse(written, time.UTC)
		if err != nil {
			return // a layout can hold less than a date, or text that only can be written
		}
		twice := strings.Contains(text, "E") // a day of the week is read and not compared
		if again := l.Format(read); again != written && !twice {
			t.Fatalf("%s: %s is read and written as %s", text, written, again)
		}
	})
}
