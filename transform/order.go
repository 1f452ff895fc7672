package transform

import (
	"errors"
	"strings"
)

// Keys are compared as bytes, so that what is sorted in memory and in files is sorted alike. A key is one part for each value; no part is the beginning of
// another one.
const (
	keyNullFirst = 0x01
	keyFalse     = 0x20
	keyTrue      = 0x21
	keyNumber    = 0x30
	keyText      = 0x40
	keyBytes     = 0x50
	keyNullLast  = 0xFE
)

// errNoKey is of values that cannot be compared.
var errNoKey = errors.New("a list or an object has no order and is no key: take one value of it")

// appendOrder appends a part by which values are in the order of the language: false before true, numbers, untyped ones among them, by value, text by
// code point; what is of different kinds in the order of the constants.
func appendOrder(key []byte, v Value, descending, nullsLast bool) ([]byte, error) {
	if v.Kind() == KindNull {
		if nullsLast {
			return append(key, keyNullLast), nil
		}
		return append(key, keyNullFirst), nil
	}
	at := len(key)
	switch v.Kind() {
	case KindNumber, KindUntyped:
		d, err := ParseDecimal(v.Text())
		if err == nil {
			key = appendNumber(append(key, keyNumber), d)
		} else if v.Kind() == KindNumber {
			return key, err
		} else {
			key = appendText(append(key, keyText), v.Text())
		}
	default:
		var err error
		if key, err = appendSame(key, v); err != nil {
			return key, err
		}
	}
	if descending {
		invert(key[at:])
	}
	return key, nil
}

// appendSame appends a part that is the same for values that are one key: numbers by value, everything else by kind and text. A text is the same as the
// number that it writes in its shortest form, and null as null.
func appendSame(key []byte, v Value) ([]byte, error) {
	switch v.Kind() {
	case KindNull:
		return append(key, keyNullFirst), nil
	case KindBool:
		if v.IsTrue() {
			return append(key, keyTrue), nil
		}
		return append(key, keyFalse), nil
	case KindNumber:
		d, err := ParseDecimal(v.Text())
		if err != nil {
			return key, err
		}
		return appendText(append(key, keyText), d.shortest().String()), nil
	case KindText, KindUntyped:
		return appendText(append(key, keyText), v.Text()), nil
	case KindBytes:
		return appendText(append(key, keyBytes), v.Text()), nil
	}
	return key, errNoKey
}

// appendText appends text of which no other one is the beginning.
func appendText(key []byte, text string) []byte {
	for {
		i := strings.IndexByte(text, 0)
		if i < 0 {
			return append(append(key, text...), 0, 1)
		}
		key = append(append(key, text[:i]...), 0, 0xFF)
		text = text[i+1:]
	}
}

// appendNumber appends a sign, an exponent and digits: what they stand for is 0.DIGITS times ten to the exponent.
func appendNumber(key []byte, d Decimal) []byte {
	sign := d.Sign()
	if sign == 0 {
		return append(key, 2)
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(d.String(), "-"), ".")
	whole = strings.TrimLeft(whole, "0")
	exponent := len(whole)
	digits := whole + fraction
	if whole == "" {
		digits = strings.TrimLeft(fraction, "0")
		exponent = len(digits) - len(fraction)
	}
	digits = strings.TrimRight(digits, "0")
	at := len(key) + 1
	biased := exponent + 1<<15 // of at most some thousand
	key = append(append(append(key, 3, byte(biased>>8), byte(biased)), digits...), 0)
	if sign < 0 {
		key[at-1] = 1
		invert(key[at:])
	}
	return key
}

func invert(b []byte) {
	for i := range b {
		b[i] = ^b[i]
	}
}
