package integrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/flow"
	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

// mailbox is a kind of listeners that takes payloads from a channel.
type mailbox struct {
	letters chan string
	answers chan string
	events  chan string // what Listen does, in order
}

func (m *mailbox) kind() listener.Kind {
	return listener.Kind{Name: "mailbox", New: func(env listener.Env, decode func(any) error) (listener.EntryPoint, error) {
		var options struct {
			Address string `json:"address"`
		}
		if err := decode(&options); err != nil {
			return nil, err
		}
		return &entryPoint{m, env.Name + " at " + options.Address}, nil
	}}
}

type entryPoint struct {
	box  *mailbox
	name string
}

func (e *entryPoint) Listen(ctx context.Context, receive listener.ReceiveFunc) error {
	e.box.events <- "open " + e.name
	defer func() { e.box.events <- "close " + e.name }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case letter := <-e.box.letters:
			answer, err := receive(ctx, &listener.Call{Body: strings.NewReader(letter), Length: -1})
			if err != nil {
				e.box.answers <- err.Error()
				continue
			}
			e.box.answers <- fmt.Sprint(answer.Receipt.Runs[0].Number)
		}
	}
}

func TestKindOfListeners(t *testing.T) {
	t.Parallel()
	m := &mailbox{letters: make(chan string), answers: make(chan string), events: make(chan string, 10)}
	h := start(t, `
connections: {out: {type: file, dir: out}}
listeners:
  box:    {type: mailbox, address: here, format: json, max_body: 20}
  unread: {type: mailbox, address: there, format: json}
flows:
  load: {from: {listener: box}, steps: [{map: {n: n, user: message.user}}], to: {connection: out, path: "${run.number}.ndjson", format: ndjson}}
`, func(c *integrator.Config) { c.Listeners = []listener.Kind{m.kind()} })
	m.letters <- `{"n": 1}`
	if answer := <-m.answers; answer != "1" {
		t.Errorf("the answer is %s", answer)
	}
	if e := h.events.settled(1); e.Run.Status != store.Success || h.read("out/1.ndjson") != `{"n":1,"user":"listener:box"}`+"\n" {
		t.Errorf("the run is %v: %s", e.Run.Status, h.read("out/1.ndjson"))
	}
	for letter, want := range map[string]string{`{"n":`: "malformed", `{"n": "much too long for it"}`: listener.ErrTooLarge.Error()} {
		m.letters <- letter
		if answer := <-m.answers; !strings.Contains(answer, want) {
			t.Errorf("%s is answered with %s", letter, answer)
		}
	}
	if err := h.engine.Define(integrator.Definitions{Flows: map[string]flow.Definition{"other": {Respond: &flow.Respond{}}}}); err != nil {
		t.Fatal(err)
	}
	h.stop()
	close(m.events)
	var events []string
	for e := range m.events {
		events = append(events, e)
	}
	if got, want := strings.Join(events, ", "), "open box at here, close box at here, open box at here, close box at here"; got != want {
		t.Errorf("the entry point did %s, want %s", got, want)
	}
}

func TestKindOfListenersInDefinitions(t *testing.T) {
	t.Parallel()
	m := &mailbox{}
	_, err := integrator.New(integrator.Config{Dir: t.TempDir(), Listeners: []listener.Kind{m.kind()}, Definitions: definitionsOf(`listeners:
  a: {type: mailbox, adress: here}
  b: {type: mailbx}
  c: {path: /c, address: here}
`)})
	var faults integrator.Faults
	want := `integrator.yaml:2:22: listeners.a.adress: unknown key "adress" (did you mean address?)
integrator.yaml:3:13: listeners.b.type: type "mailbx" is not known (there are http, mailbox)
integrator.yaml:4:17: listeners.c.address: unknown key "address" (there are type, path, method, format, check, mode, timeout, max_body, enabled, idempotency, auth, auth_in, rate, strict_type, params, answer, cors)`
	if !errors.As(err, &faults) || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
