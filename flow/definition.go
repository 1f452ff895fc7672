package flow

import (
	"time"

	"github.com/integrator-go/integrator/transform"
)

// Definition is a flow as a person writes it: FROM a source, through steps, TO destinations, a response, or both.
//
// The tags beside json steer the loader of definitions: `one` takes a single value for a list, `short` names the field that a bare
// value sets, `template` marks text whose ${…} is filled in by a run, `expression` text in which env and vars alone are, `rest` takes the keys that
// belong to somebody else (unless the struct's method TakesRest says no), `secret` and `masked` mark what is shown as *** unless it is one ${…},
// `secret` also what is taken out of logs and messages, and `later` lists keys of the language that are refused as not supported yet.
type Definition struct {
	Description string           `json:"description"`
	Enabled     *bool            `json:"enabled"`  // nil is true
	Listener    string           `json:"listener"` // a listener that only starts the flow
	From        *From            `json:"from"`     // nil: one record that holds the parameters
	Params      map[string]Param `json:"params"`
	Steps       []Step           `json:"steps" define:"one"`
	To          []Destination    `json:"to" define:"one"`
	Respond     *Respond         `json:"respond"`
	OnReject    OnReject         `json:"on_reject"`
	OnError     []OnError        `json:"on_error" define:"one"` // of a flow that a synchronous listener waits for
	Retry       Retry            `json:"retry"`
	Timeout     time.Duration    `json:"timeout"`                      // of one attempt; 0 is unlimited
	MaxRunning  int              `json:"max_running"`                  // attempts at a time; 0: 1 for runs by name, unlimited by a listener
	Group       int              `json:"group"`                        // small runs executed together, at most; 0 is 100
	OrderBy     string           `json:"order_by" define:"expression"` // a path, or an expression behind =: runs of one key keep their order; "" is none
	Timezone    string           `json:"timezone"`                     // of ${now} and of dates; "" is UTC
}

// From is where a flow's records come from: a listener, or a connection with one of table, query and path.
type From struct {
	Listener   string                    `json:"listener"`
	When       string                    `json:"when" define:"expression"`    // of header and param, decided when a payload is accepted; "": each payload is wanted
	Records    string                    `json:"records" define:"expression"` // path of the records in the document
	Connection string                    `json:"connection"`
	Table      string                    `json:"table"`
	Query      string                    `json:"query" define:"sql"`
	Bind       map[string]transform.Term `json:"bind"` // values of the query's binds; a bind that is not named here is a parameter
	Path       string                    `json:"path" define:"template"`
	Format     *transform.FormatRef      `json:"format"`
	_          struct{}                  `later:"watermark"`
}

// Param declares a parameter of a flow or of a listener.
type Param struct {
	Type     string   `json:"type" define:"short"` // text (the default), int, decimal, bool, date
	Required bool     `json:"required"`
	Default  any      `json:"default"`
	Enum     []string `json:"enum"`
	Min      any      `json:"min"`
	Max      any      `json:"max"`
}

// Step is one step of a flow: exactly one of its fields is set.
type Step struct {
	Filter string            `json:"filter" define:"expression"` // what is not true is left out
	Map    transform.Map     `json:"map"`                        // the output's fields, in order
	Set    transform.Map     `json:"set"`                        // fields added or replaced
	Drop   []string          `json:"drop" define:"one"`
	Rename map[string]string `json:"rename"` // new name: old name
	Reject *Reject           `json:"reject"`
	// Split is a path, or an expression behind =, of a list: a record for each of its elements, which is `this` from there on, the record that was
	// split `parent`, and `index` the position in the list.
	Split   string   `json:"split" define:"expression"`
	Flatten *Flatten `json:"flatten"` // fields of nested objects become the record's own

	// Nest, Sort, Dedupe and Aggregate take all records of the run before they give the last one.
	Nest      *Nest      `json:"nest"`              // a record of all that are alike in some fields, with a list of what else they have
	Sort      []SortKey  `json:"sort" define:"one"` // records in order; those that are alike in all keys keep theirs
	Dedupe    *Dedupe    `json:"dedupe"`            // one record of each key
	Aggregate *Aggregate `json:"aggregate"`         // a record of each group of records

	When *When    `json:"when"` // steps for some records, and others for the rest
	Use  string   `json:"use"`  // the steps of a list that the set has under `steps`, by its name, in place of this one
	Go   string   `json:"go"`   // a Go function of the host, by its name in integrator.Config.Steps
	_    struct{} `later:"validate lookup call join flow for_each"`
}

// When has steps for the records for which a condition is true, and others for the rest. The records stay in their order.
type When struct {
	If    string `json:"if" define:"expression"`
	Steps []Step `json:"steps"`
	Else  []Step `json:"else"` // nil: the others go on as they are
}

// Nest makes one record of all that are alike in some fields.
type Nest struct {
	Into string   `json:"into"`            // the field that gets the list of them
	By   []string `json:"by" define:"one"` // fields of the record; the list's objects have the others
}

// SortKey is what records are ordered by.
type SortKey struct {
	By    string `json:"by" define:"short,expression"` // a path, or an expression behind =
	Order string `json:"order"`                        // asc (the default), desc
	Nulls string `json:"nulls"`                        // first, last; "": null is less than anything else
}

// Dedupe keeps one record of each key.
type Dedupe struct {
	By   []string `json:"by" define:"short,one,expression"` // paths, or expressions behind =, whose values are the key
	Keep string   `json:"keep"`                             // first (the default), last
}

// Aggregate makes a record of each group of records.
type Aggregate struct {
	By     []string      `json:"by" define:"one"` // paths, whose last names are the fields' names; nil: all records are one group
	Fields transform.Map `json:"fields"`          // count, or count, distinct, sum, avg, min, max, first, last, list of an expression
}

// Flatten makes the fields of nested objects the record's own.
type Flatten struct {
	Separator string `json:"separator" define:"short"` // between the names; "" is .
	Depth     int    `json:"depth"`                    // how many levels of objects are taken apart; 0: all
}

// Reject turns records away.
type Reject struct {
	When   string `json:"when" define:"short,expression"`
	Reason string `json:"reason"`
}

// Destination is where a flow's records go: a connection with a table or a path.
type Destination struct {
	Connection string               `json:"connection"`
	Table      string               `json:"table"`
	Path       string               `json:"path" define:"template"`
	Format     *transform.FormatRef `json:"format"`
	Each       string               `json:"each" define:"expression"`   // path of a list: a row for each of its elements, which is `this` then, `parent` the record and `index` its position; "": the record is the row
	When       string               `json:"when" define:"expression"`   // what it is not true for is not written here; "" takes all
	Action     string               `json:"action" define:"expression"` // insert (the default), upsert, update, delete, replace, or an expression that gives one of them for each record
	Key        []string             `json:"key" define:"one"`           // columns that tell rows apart
	Map        transform.Map        `json:"map"`                        // this destination's own fields; nil: the record as it is
	Create     bool                 `json:"create"`                     // make the table when it is missing
	Exists     string               `json:"exists"`                     // files: replace (the default), append, fail, unique
	Commit     int                  `json:"commit"`                     // SQL: records of the source after which a part of the run is committed; 0: the run is one transaction
	_          struct{}             `later:"to subject attach"`
}

// Respond is the answer to whoever waits for the run.
type Respond struct {
	Status  int                   `json:"status"`              // 0 is 200
	Format  []transform.FormatRef `json:"format" define:"one"` // nil is json; of several the caller chooses by Accept, the first unless it says
	Headers map[string]string     `json:"headers" define:"template"`
	Body    transform.Map         `json:"body"`   // one object in place of the run's records; nil: the records
	Page    *Page                 `json:"page"`   // nil: the answer is all there is
	Stream  bool                  `json:"stream"` // records are sent while the run goes on; false: when it has ended
}

// Page says which part of a larger whole the answer is: a full one gets a link to the next (RFC 8288).
type Page struct {
	Size  string `json:"size"`  // the parameter that says how many records a page has
	After string `json:"after"` // the field whose value in the last record is the next page's parameter `after`
}

// OnError is the answer to a synchronous call whose run did not go well. The first of a flow's that fits is taken.
type OnError struct {
	Kind    []string     `json:"kind" define:"one"` // of failures; nil: any
	Respond ErrorRespond `json:"respond"`
}

// ErrorRespond is what an [OnError] answers.
type ErrorRespond struct {
	Status  int                   `json:"status"` // 0: that of the problem document which the caller would get
	Format  []transform.FormatRef `json:"format" define:"one"`
	Headers map[string]string     `json:"headers" define:"template"`
	Body    transform.Map         `json:"body"` // nil: the problem document
}

// OnReject says what a rejected record does to its run.
type OnReject struct {
	Action string `json:"action" define:"short"` // stop (the default): the run fails and what can roll back does · keep: it goes on
	Max    string `json:"max"`                   // with keep: more than this many, or this share ("5%"), act as stop; "" is no bound

	// To is where the rejected records of a run that ends in warning go, as [Runner.Rejects] shows them; nil: they are kept with the run alone.
	To *Destination `json:"to"`
}

// Retry says how often and when a run that failed for a passing reason is tried again. Runs that somebody waits for have one attempt.
type Retry struct {
	Attempts   int           `json:"attempts"`    // the first one included; 0 is 5
	Backoff    time.Duration `json:"backoff"`     // before the second attempt, doubling; 0 is 1s
	MaxBackoff time.Duration `json:"max_backoff"` // 0 is 5m
}
