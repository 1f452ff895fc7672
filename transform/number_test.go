package transform_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/integrator-go/integrator/transform"
)

func decimal(t interface{ Fatal(...any) }, text string) transform.Decimal {
	d, err := transform.ParseDecimal(text)
	if err != nil {
		t.Fatal(text, err)
	}
	return d
}

func TestParseDecimal(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, text, want string }{
		{"zero", "0", "0"},
		{"negative zero", "-0", "0"},
		{"as written", "1.10", "1.10"},
		{"exponent", "1e3", "1000"},
		{"negative exponent", "1E-3", "0.001"},
		{"positive exponent", "1.5e+1", "15"},
		{"eighteen digits", "123456789012345678", "123456789012345678"},
		{"the largest of 64 bits", "9223372036854775807", "9223372036854775807"},
		{"the smallest of 64 bits", "-9223372036854775808", "-9223372036854775808"},
		{"one more", "9223372036854775808", "9223372036854775808"},
		{"twenty digits", "12345678901234567890", "12345678901234567890"},
		{"many decimals", "0.123456789012345678901234567890", "0.12345678901234567890123456789"},
		{"beyond floats", "1e400", "1" + strings.Repeat("0", 400)},
		{"below floats", "-1e-400", "-0." + strings.Repeat("0", 399) + "1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := decimal(t, row.text).String(); got != row.want {
				t.Errorf("%s is %s, want %s", row.text, got, row.want)
			}
		})
	}
}

func TestParseDecimalRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		size       bool
	}{
		{"empty", "", false},
		{"sign alone", "-", false},
		{"plus", "+1", false},
		{"leading zero", "01", false},
		{"blank", " 1", false},
		{"comma", "1,5", false},
		{"point at the end", "1.", false},
		{"point at the start", ".5", false},
		{"not a number", "NaN", false},
		{"infinity", "Infinity", false},
		{"hexadecimal", "0x10", false},
		{"digits of other scripts", "١", false},
		{"exponent too large", "1e1001", true},
		{"exponent much too large", "1e99999999999999999999", true},
		{"too many digits", strings.Repeat("1", 1001), true},
		{"very many digits", strings.Repeat("1", 1<<20), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d, err := transform.ParseDecimal(row.text)
			if err == nil {
				t.Fatalf("reads as %s", d)
			}
			if errors.Is(err, transform.ErrNumberSize) != row.size {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDecimalInt(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		want       int
		ok         bool
	}{
		{"whole", "20", 20, true},
		{"whole with a fraction of zeros", "20.00", 20, true},
		{"whole with an exponent", "2e1", 20, true},
		{"negative", "-3", -3, true},
		{"fraction", "20.5", 0, false},
		{"too large", "12345678901234567890", 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := decimal(t, row.text).Int(); got != row.want || ok != row.ok {
				t.Errorf("got %d, %v", got, ok)
			}
		})
	}
}

// numbers draws numbers around the places where the representation changes.
func numbers() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?`),
		rapid.StringMatching(`-?[1-9][0-9]{15,19}(\.[0-9]{1,20})?`),
		rapid.StringMatching(`-?[1-9](\.[0-9]{1,30})?e-?[0-9]{1,2}`),
		rapid.StringMatching(`-?[1-9]0{0,40}`),
		rapid.SampledFrom([]string{"0", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775807", "0.000000000000000001", "1e18", "1e19", "1e-18", "1e-19"}),
	)
}

func rational(t *rapid.T, text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatal(text)
	}
	return r
}

// TestArithmetic compares with rational numbers, which never round.
func TestArithmetic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, checkArithmetic)
}

func FuzzArithmetic(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkArithmetic)) }

func checkArithmetic(t *rapid.T) {
	a, b := numbers().Draw(t, "a"), numbers().Draw(t, "b")
	x, y := decimal(t, a), decimal(t, b)
	p, q := rational(t, a), rational(t, b)
	same := func(operation string, d transform.Decimal, err error, want *big.Rat) {
		if err != nil {
			t.Fatalf("%s %s %s: %v", a, operation, b, err)
		}
		text := d.String()
		if !transform.IsNumber(text) || strings.HasPrefix(text, "-0") && rational(t, text).Sign() == 0 {
			t.Fatalf("%s %s %s is written %q", a, operation, b, text)
		}
		if rational(t, text).Cmp(want) != 0 {
			t.Fatalf("%s %s %s is %s, want %s", a, operation, b, text, want.RatString())
		}
	}
	sum, err := x.Add(y)
	same("+", sum, err, new(big.Rat).Add(p, q))
	difference, err := x.Sub(y)
	same("-", difference, err, new(big.Rat).Sub(p, q))
	product, err := x.Mul(y)
	same("*", product, err, new(big.Rat).Mul(p, q))
	same("negative", x.Neg(), nil, new(big.Rat).Neg(p))
	if x.Cmp(y) != p.Cmp(q) || x.Sign() != p.Sign() {
		t.Fatalf("%s and %s are in order %d, sign %d", a, b, x.Cmp(y), x.Sign())
	}
	if n, ok := x.Int(); ok != (p.IsInt() && p.Num().IsInt64()) || ok && int64(n) != p.Num().Int64() {
		t.Fatalf("%s as an int is %d, %v", a, n, ok)
	}

	// Whole numbers around x, and x rounded.
	floor := new(big.Rat).SetInt(new(big.Int).Div(p.Num(), p.Denom())) // Euclidean: the denominator is positive
	same("floor", x.Floor(), nil, floor)
	ceil := new(big.Rat).Set(floor)
	if !p.IsInt() {
		ceil.Add(ceil, big.NewRat(1, 1))
	}
	same("ceil", x.Ceil(), nil, ceil)
	places := rapid.IntRange(-25, 25).Draw(t, "places")
	same("round", x.Round(places), nil, rounded(p, places))

	if q.Sign() == 0 {
		if _, err := x.Quo(y); !errors.Is(err, transform.ErrDivisionByZero) {
			t.Fatalf("%s / 0: %v", a, err)
		}
		if _, err := x.Rem(y); !errors.Is(err, transform.ErrDivisionByZero) {
			t.Fatalf("%s %% 0: %v", a, err)
		}
		return
	}
	whole := new(big.Rat).Quo(p, q)
	times := new(big.Int).Quo(whole.Num(), whole.Denom()) // toward zero
	remainder, err := x.Rem(y)
	same("%", remainder, err, new(big.Rat).Sub(p, new(big.Rat).Mul(q, new(big.Rat).SetInt(times))))

	quotient, err := x.Quo(y)
	if err != nil {
		t.Fatalf("%s / %s: %v", a, b, err)
	}
	// A quotient is as near as 34 digits allow: the error is below one unit of the 34th.
	off := new(big.Rat).Sub(rational(t, quotient.String()), whole)
	unit := new(big.Rat).Mul(new(big.Rat).Abs(whole), new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(33), nil)))
	if off.Abs(off).Cmp(unit) > 0 {
		t.Fatalf("%s / %s is %s", a, b, quotient)
	}
	if back, err := quotient.Mul(y); err == nil && off.Sign() == 0 {
		same("/ and *", back, nil, p)
	}
}

// rounded is p rounded to places, half away from zero.
func rounded(p *big.Rat, places int) *big.Rat {
	shift := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(places, -places))), nil))
	if places < 0 {
		shift.Inv(shift)
	}
	scaled := new(big.Rat).Mul(new(big.Rat).Abs(p), shift)
	scaled.Add(scaled, big.NewRat(1, 2))
	whole := new(big.Rat).SetInt(new(big.Int).Div(scaled.Num(), scaled.Denom()))
	whole.Quo(whole, shift)
	if p.Sign() < 0 {
		whole.Neg(whole)
	}
	return whole
}

func FuzzParseDecimal(f *testing.F) {
	for _, seed := range []string{"0", "-1.50", "1e400", "9223372036854775808", "1e-19", "01", "1e1001", "0.1e1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := transform.ParseDecimal(text)
		if err != nil {
			if transform.IsNumber(text) && !errors.Is(err, transform.ErrNumberSize) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := transform.ParseDecimal(d.String())
		if err != nil || again.Cmp(d) != 0 || again.String() != d.String() {
			t.Fatalf("%q is %s, then %s (%v)", text, d, again, err)
		}
	})
}
