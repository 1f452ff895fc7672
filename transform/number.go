package transform

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Decimal is an exact decimal number: the number type of expressions. Sums, differences, products and remainders are exact whatever their
// length. A quotient has up to 34 significant digits (those of IEEE 754 decimal128), or as many as both numbers together where that is more;
// what does not end there is rounded half to even. Nothing else rounds. The zero value is 0. Decimals never change and may be copied.
type Decimal struct {
	coefficient int64 // value = coefficient / 10^scale, unless big is set
	scale       int32
	big         *apd.Decimal
}

// Faults of arithmetic.
var (
	ErrNumberSize     = errors.New("the number is too large or too long to calculate with")
	ErrDivisionByZero = errors.New("division by zero")
)

// maxDigits bounds the digits of a number that takes part in a calculation, before and after the point together.
const maxDigits = 1000

// ParseDecimal reads a number of RFC 8259 section 6. The error of one that is too long is ErrNumberSize; anything else that is no number is
// refused too.
func ParseDecimal(text string) (Decimal, error) {
	if len(text) > 2*maxDigits {
		return Decimal{}, ErrNumberSize
	}
	if d, ok := parseShort(text); ok {
		return d, nil
	}
	if !IsNumber(text) {
		return Decimal{}, errors.New("this is no number")
	}
	d, _, err := apd.NewFromString(text)
	if err != nil {
		return Decimal{}, ErrNumberSize // the grammar was checked: only the exponent can be too large
	}
	return fromBig(d)
}

// parseShort reads a number of up to 18 characters without an exponent; false when it is another, or none.
func parseShort(text string) (d Decimal, ok bool) {
	digits := text
	if strings.HasPrefix(text, "-") {
		digits = text[1:]
	}
	if len(text) > 18 || digits == "" || len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
		return Decimal{}, false
	}
	point := -1
	for i := range len(digits) {
		switch c := digits[i]; {
		case '0' <= c && c <= '9':
			d.coefficient = 10*d.coefficient + int64(c-'0')
		case c == '.' && point < 0 && 0 < i && i < len(digits)-1:
			point = i
		default:
			return Decimal{}, false
		}
	}
	if point > 0 {
		d.scale = int32(len(digits) - 1 - point)
	}
	if len(digits) < len(text) {
		d.coefficient = -d.coefficient
	}
	return d, true
}

// DecimalOf returns the integer i.
func DecimalOf(i int64) Decimal { return Decimal{coefficient: i} }

// exact calculates without rounding.
var exact = apd.BaseContext.WithPrecision(0)

// fromBig brings a result into its shortest form, and refuses one that is too long.
func fromBig(d *apd.Decimal) (Decimal, error) {
	if d.Form != apd.Finite {
		return Decimal{}, ErrNumberSize
	}
	d.Reduce(d)
	if size(d) > maxDigits {
		return Decimal{}, ErrNumberSize
	}
	if d.Exponent >= -18 && d.Exponent <= 18 && d.Coeff.IsInt64() {
		c, scale := d.Coeff.Int64(), max(0, -d.Exponent)
		c, fits := multiply(c, powers[max(0, d.Exponent)])
		if d.Negative {
			c = -c
		}
		if fits {
			return Decimal{coefficient: c, scale: scale}, nil
		}
	}
	return Decimal{big: d}, nil
}

// size is how many digits the number takes when written without an exponent.
func size(d *apd.Decimal) int64 {
	n := d.NumDigits()
	if e := int64(d.Exponent); e > 0 {
		return n + e
	} else {
		return max(n, -e)
	}
}

func (d Decimal) toBig() *apd.Decimal {
	if d.big != nil {
		return d.big
	}
	return apd.New(d.coefficient, -d.scale)
}

// short brings a result of fast arithmetic into its shortest form.
func short(coefficient int64, scale int32) Decimal {
	for scale > 0 && coefficient%10 == 0 {
		coefficient /= 10
		scale--
	}
	return Decimal{coefficient: coefficient, scale: scale}
}

var powers = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// align returns both coefficients at one scale; false when that does not fit.
func align(a, b Decimal) (x, y int64, scale int32, ok bool) {
	if a.big != nil || b.big != nil {
		return 0, 0, 0, false
	}
	x, y, scale = a.coefficient, b.coefficient, a.scale
	switch {
	case a.scale < b.scale:
		scale = b.scale
		x, ok = multiply(x, powers[b.scale-a.scale])
	case a.scale > b.scale:
		y, ok = multiply(y, powers[a.scale-b.scale])
	default:
		ok = true
	}
	return x, y, scale, ok
}

func multiply(a, b int64) (int64, bool) {
	if a == math.MinInt64 || b == math.MinInt64 {
		return 0, false
	}
	negative := (a < 0) != (b < 0)
	hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if negative {
		return -int64(lo), true
	}
	return int64(lo), true
}

// Add returns d + e.
func (d Decimal) Add(e Decimal) (Decimal, error) {
	if x, y, scale, ok := align(d, e); ok {
		if sum := x + y; (sum > x) == (y > 0) {
			return short(sum, scale), nil
		}
	}
	return bigResult(exact.Add, d, e)
}

// Sub returns d - e.
func (d Decimal) Sub(e Decimal) (Decimal, error) { return d.Add(e.Neg()) }

// Mul returns d * e.
func (d Decimal) Mul(e Decimal) (Decimal, error) {
	if d.big == nil && e.big == nil && d.scale+e.scale <= 18 {
		if c, ok := multiply(d.coefficient, e.coefficient); ok {
			return short(c, d.scale+e.scale), nil
		}
	}
	return bigResult(exact.Mul, d, e)
}

// Quo returns d / e; ErrDivisionByZero when e is 0.
func (d Decimal) Quo(e Decimal) (Decimal, error) {
	if e.Sign() == 0 {
		return Decimal{}, ErrDivisionByZero
	}
	if x, y, _, ok := align(d, e); ok && x%y == 0 && x != math.MinInt64 {
		return DecimalOf(x / y), nil
	}
	a, b := d.toBig(), e.toBig()
	c := apd.BaseContext.WithPrecision(uint32(max(34, a.NumDigits()+b.NumDigits())))
	c.Rounding = apd.RoundHalfEven
	return bigResult(c.Quo, d, e)
}

// Rem returns what is left of d after dividing by e as often as it goes whole, with the sign of d; ErrDivisionByZero when e is 0.
func (d Decimal) Rem(e Decimal) (Decimal, error) {
	if e.Sign() == 0 {
		return Decimal{}, ErrDivisionByZero
	}
	if x, y, scale, ok := align(d, e); ok {
		return short(x%y, scale), nil
	}
	return bigResult(apd.BaseContext.WithPrecision(2*maxDigits).Rem, d, e)
}

func bigResult(operation func(d, x, y *apd.Decimal) (apd.Condition, error), a, b Decimal) (Decimal, error) {
	var result apd.Decimal
	condition, err := operation(&result, a.toBig(), b.toBig())
	if err != nil || condition.Overflow() || condition.Underflow() {
		return Decimal{}, ErrNumberSize
	}
	return fromBig(&result)
}

// Neg returns -d.
func (d Decimal) Neg() Decimal {
	if d.big == nil && d.coefficient != math.MinInt64 {
		return Decimal{coefficient: -d.coefficient, scale: d.scale}
	}
	var result apd.Decimal
	result.Neg(d.toBig())
	return Decimal{big: &result}
}

// Sign returns -1, 0 or 1.
func (d Decimal) Sign() int {
	if d.big != nil {
		return d.big.Sign()
	}
	switch {
	case d.coefficient < 0:
		return -1
	case d.coefficient > 0:
		return 1
	}
	return 0
}

// shortest returns d without zeros at the end of its fraction, which a number keeps as it was written.
func (d Decimal) shortest() Decimal {
	if d.big != nil {
		return d
	}
	return short(d.coefficient, d.scale)
}

// Cmp returns -1, 0 or 1 as d is less than, equal to or greater than e.
func (d Decimal) Cmp(e Decimal) int {
	if x, y, _, ok := align(d, e); ok {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return d.toBig().Cmp(e.toBig())
}

// Round returns d rounded to a number of places after the point, half away from zero as people do it; negative places round before the
// point.
func (d Decimal) Round(places int) Decimal {
	if d.big == nil && int(d.scale) <= places {
		return d
	}
	places = min(max(places, -maxDigits-1), maxDigits)
	c := apd.BaseContext.WithPrecision(2 * maxDigits)
	c.Rounding = apd.RoundHalfUp
	return d.rounded(func(result, x *apd.Decimal) (apd.Condition, error) { return c.Quantize(result, x, int32(-places)) })
}

// Floor returns the greatest whole number that is not above d.
func (d Decimal) Floor() Decimal { return d.rounded(exact.Floor) }

// Ceil returns the least whole number that is not below d.
func (d Decimal) Ceil() Decimal { return d.rounded(exact.Ceil) }

// rounded returns what f makes of d. A number that has no more digits than f asks for makes f fail, and stays what it is.
func (d Decimal) rounded(f func(result, x *apd.Decimal) (apd.Condition, error)) Decimal {
	var result apd.Decimal
	if _, err := f(&result, d.toBig()); err != nil {
		return d
	}
	rounded, err := fromBig(&result)
	if err != nil {
		return d
	}
	return rounded
}

// Int returns d as an int; false when it is not whole or does not fit.
func (d Decimal) Int() (int, bool) {
	if d.big != nil {
		i, err := d.big.Int64()
		return int(i), err == nil
	}
	if d.coefficient%powers[d.scale] != 0 {
		return 0, false
	}
	return int(d.coefficient / powers[d.scale]), true
}

// String returns the digits without an exponent.
func (d Decimal) String() string {
	if d.big != nil {
		return d.big.Text('f')
	}
	var digits [24]byte
	return string(d.appendTo(digits[:0]))
}

// appendTo appends the digits of a number that is not big.
func (d Decimal) appendTo(b []byte) []byte {
	start := len(b)
	b = strconv.AppendInt(b, d.coefficient, 10)
	if d.scale == 0 {
		return b
	}
	if b[start] == '-' {
		start++
	}
	for len(b)-start <= int(d.scale) { // a digit stands before the point
		b = slices.Insert(b, start, '0')
	}
	return slices.Insert(b, len(b)-int(d.scale), '.')
}

// Value returns the number as a value.
func (d Decimal) Value() Value { return Number(d.String()) }
