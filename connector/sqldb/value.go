package sqldb

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/integrator-go/integrator/transform"
	"github.com/integrator-go/integrator/transform/jsonfmt"
)

// Class says what a column holds, and so how text is read for it.
type Class int

const (
	Any     Class = iota // whatever comes, as it is
	Integer              // whole numbers of 64 bits
	Numeric              // numbers that the database keeps as whole or binary fractions
	Decimal              // exact decimal numbers of any length
	Boolean
	Text
	Date
	Timestamp
	Blob
)

// String returns the class as messages have it.
func (c Class) String() string {
	return [...]string{"anything", "a whole number", "a number", "a decimal number", "true or false", "text", "a date", "a time", "bytes"}[c]
}

var (
	errRounded = errors.New("the column would round this number: use a text column, or round it in the flow")
	errNested  = errors.New("an object or list is no single value")
)

// convert returns a value as an argument for a column; text is parsed strictly. The error holds nothing of the value.
func convert(c Class, v transform.Value) (any, error) {
	if v.IsNull() {
		return nil, nil
	}
	mismatch := func() (any, error) {
		return nil, errors.New(c.String() + " is expected here, this is " + v.Kind().String())
	}
	text := v.Text()
	numeric := v.Kind() == transform.KindNumber || v.IsText()
	switch c {
	case Any:
		return argument(v)
	case Integer:
		if !numeric || !transform.IsNumber(text) {
			return mismatch()
		}
		n, err := number(text)
		if _, whole := n.(int64); err != nil || !whole {
			return mismatch()
		}
		return n, nil
	case Numeric:
		if !numeric || !transform.IsNumber(text) {
			return mismatch()
		}
		return number(text)
	case Decimal:
		if !numeric || !transform.IsNumber(text) {
			return mismatch()
		}
		return text, nil
	case Boolean:
		switch {
		case v.Kind() == transform.KindBool, v.IsText() && (text == "true" || text == "false"):
			return text == "true", nil
		case numeric && (text == "1" || text == "0"):
			return text == "1", nil
		}
		return mismatch()
	case Date:
		if _, err := time.Parse(time.DateOnly, text); err != nil || !v.IsText() {
			return mismatch()
		}
		return text, nil
	case Timestamp:
		if !v.IsText() {
			return mismatch()
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
			if _, err := time.Parse(layout, text); err == nil {
				return text, nil
			}
		}
		return mismatch()
	case Blob:
		if v.Kind() == transform.KindBytes || v.IsText() {
			return []byte(text), nil
		}
		return mismatch()
	}
	switch v.Kind() { // Text
	case transform.KindObject, transform.KindList:
		b, err := jsonfmt.Append(nil, v)
		return string(b), err
	case transform.KindBytes:
		return mismatch()
	}
	return text, nil
}

// number returns a number as an int64, or as a float64 when that is exact. The text is a number.
func number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	short := len(text) <= safeDigits && !strings.ContainsAny(text, "eE")
	switch {
	case err != nil, !short && !exact(f, text):
		return nil, errRounded
	case f == math.Trunc(f) && math.Abs(f) < 1<<53:
		return int64(f), nil
	}
	return f, nil
}

// safeDigits is how many decimal digits a float64 always keeps.
const safeDigits = 15

// exact reports whether the shortest text of f is the number that text writes.
func exact(f float64, text string) bool {
	d, err := transform.ParseDecimal(text)
	if err != nil {
		return false
	}
	back, err := transform.ParseDecimal(strconv.FormatFloat(f, 'g', -1, 64))
	return err == nil && back.Cmp(d) == 0
}

// argument returns a value as an argument where the column is not known.
func argument(v transform.Value) (any, error) {
	switch v.Kind() {
	case transform.KindNull:
		return nil, nil
	case transform.KindBool:
		return v.IsTrue(), nil
	case transform.KindNumber:
		if n, err := number(v.Text()); err == nil {
			return n, nil
		}
		return v.Text(), nil
	case transform.KindBytes:
		return []byte(v.Text()), nil
	case transform.KindObject, transform.KindList:
		return nil, errNested
	}
	return v.Text(), nil
}

// scanned returns what a driver scanned as a value.
func scanned(v any, class Class) transform.Value {
	switch v := v.(type) {
	case nil:
		return transform.Null
	case bool:
		return transform.Bool(v)
	case int64:
		if class == Boolean && (v == 0 || v == 1) {
			return transform.Bool(v == 1)
		}
		return transform.Int(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return transform.Text(strconv.FormatFloat(v, 'f', -1, 64)) // no number that a record could hold
		}
		return transform.Number(strconv.FormatFloat(v, 'f', -1, 64))
	case string:
		return textOf(v, class)
	case []byte:
		if class == Blob || class == Any {
			return transform.Bytes(string(v))
		}
		return textOf(string(v), class)
	case time.Time:
		if class == Date {
			return transform.Text(v.Format(time.DateOnly))
		}
		return transform.Text(v.Format(time.RFC3339Nano))
	}
	return transform.Text(fmt.Sprint(v))
}

func textOf(s string, class Class) transform.Value {
	if (class == Decimal || class == Numeric) && transform.IsNumber(s) {
		return transform.Number(s)
	}
	if !utf8.ValidString(s) {
		return transform.Bytes(s)
	}
	return transform.Text(s)
}
