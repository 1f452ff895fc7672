package auth_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/integrator-go/integrator/auth"
)

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	const canary = auth.Secret("canary")
	type holder struct {
		Secret  auth.Secret
		Pointer *auth.Secret
		List    []auth.Secret
		Any     any
	}
	secret := canary
	held := holder{canary, &secret, []auth.Secret{canary}, canary}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%v", "%10.3s", "%-20s|", "% x", "%#q", "%t", "%z"} {
		if strings.HasPrefix(verb, "%T") {
			shown = append(shown, fmt.Sprintf(verb, canary, canary))
			continue
		}
		shown = append(shown, fmt.Sprintf(verb, canary), fmt.Sprintf(verb, held), fmt.Sprintf(verb, []any{canary}), fmt.Sprintf(verb, map[string]auth.Secret{"a": canary}))
	}
	shown = append(shown, fmt.Sprint(canary), canary.String(), errors.Join(fmt.Errorf("login with %v", canary)).Error())
	for _, v := range []any{canary, held, map[string]any{"a": canary}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		shown = append(shown, string(text))
	}
	text, err := xml.Marshal(canary)
	if err != nil {
		t.Error(err)
	}
	shown = append(shown, string(text))
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("login", "secret", canary, "held", held, slog.Group("group", "secret", canary), "any", []any{canary})
	}
	shown = append(shown, log.String())
	for _, s := range shown {
		if plain := strings.ToLower(s); strings.Contains(plain, "canary") || strings.Contains(plain, "63616e") || strings.Contains(plain, "63 61 6e") {
			t.Errorf("a secret shows: %s", s)
		}
	}
	if !strings.Contains(log.String(), "secret=***") || fmt.Sprint(canary) != "***" || canary.Reveal() != "canary" {
		t.Error("a secret shows as something else than ***")
	}
}
