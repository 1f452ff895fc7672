package httpapi

import (
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/integrator-go/integrator/listener"
	"github.com/integrator-go/integrator/store"
)

// receipt is the default answer of a listener.
type receipt struct {
	MessageUUID string       `json:"messageUuid"`
	AuditID     int64        `json:"auditId"`
	FlowID      int64        `json:"flowId"`
	Status      string       `json:"status"`
	Warning     string       `json:"warning,omitempty"` // of a run that was waited for
	Runs        []receiptRun `json:"runs,omitempty"`    // when several flows read the listener
}

type receiptRun struct {
	FlowName string `json:"flowName"`
	FlowID   int64  `json:"flowId"`
	AuditID  int64  `json:"auditId"`
}

// answerReceipt answers a call whose payload is stored and whose runs nobody waits for: as the listener's definition says, else with a receipt.
func (h *handler) answerReceipt(w http.ResponseWriter, l *listener.Listener, answer *listener.Answer) {
	word := "received"
	if len(answer.Receipt.Runs) == 0 {
		word = "ignored"
	}
	warn := func(what string, err error) {
		h.engine.Logger().Warn("an answer is not as it is defined", "listener", l.Name, "what", what, "message", answer.Receipt.Message, "error", err)
	}
	status, head, body, err := l.Reply(answer, warn)
	if err != nil { // the payload is stored all the same: its sender learns that
		warn("body", err)
		status = http.StatusOK
	} else if status == 0 {
		status = http.StatusOK
	}
	header := w.Header()
	setHeader(header, head)
	switch {
	case status == http.StatusNoContent || status == http.StatusResetContent:
		setLocation(header, answer.Receipt)
		w.WriteHeader(status)
	case body == nil:
		writeReceipt(w, status, answer.Receipt, word, "")
	default:
		setLocation(header, answer.Receipt)
		header.Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		w.Write(body) // a fault of the connection is the client's to notice
	}
}

// writeReceipt answers with what was stored; word is its status, warning what is odd about a run that ended well.
func writeReceipt(w http.ResponseWriter, status int, stored *store.Receipt, word, warning string) {
	r := receipt{Status: word, Warning: warning}
	if stored.Message != uuid.Nil {
		r.MessageUUID = stored.Message.String()
		setLocation(w.Header(), stored)
	}
	for i, run := range stored.Runs {
		if i == 0 {
			r.AuditID, r.FlowID = run.Number, run.FlowID
		}
		if len(stored.Runs) > 1 {
			r.Runs = append(r.Runs, receiptRun{run.Flow, run.FlowID, run.Number})
		}
	}
	if r.Runs != nil || warning != "" {
		writeJSON(w, status, r)
		return
	}
	text := append(make([]byte, 0, 128), `{"messageUuid":"`...) // as encoding/json writes it
	text = append(append(text, r.MessageUUID...), `","auditId":`...)
	text = append(strconv.AppendInt(text, r.AuditID, 10), `,"flowId":`...)
	text = append(strconv.AppendInt(text, r.FlowID, 10), `,"status":"`...)
	writeText(w, status, append(append(text, word...), "\"}\n"...))
}

// setLocation says where the message is, unless the definition of an answer says something else.
func setLocation(header http.Header, stored *store.Receipt) {
	if header["Location"] == nil {
		header.Set("Location", "/rest/v1/messages/"+stored.Message.String())
	}
}
