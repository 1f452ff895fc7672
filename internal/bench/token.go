package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/store"
)

// tokens measures how fast tokens are issued to a user whose password is known to be right, and how fast one is checked.
func tokens(c *config) error {
	dir := filepath.Join(c.dir, "p3")
	body, err := json.Marshal(map[string]string{"login": login, "password": password})
	if err != nil {
		return err
	}
	p, err := c.startPair(dir, filtering, tokenRoute, body)
	if err != nil {
		return err
	}
	p.toEngine.token = "" // whoever has one needs no other
	if err := p.compare(c, 64, 0.5); err != nil {
		return err
	}
	if _, err := p.stop(); err != nil {
		return err
	}
	var allocations figures
	all, err := alternate(c.rounds, side{"token check", func() (float64, error) {
		var v verified
		check, err := c.start("verify", dir)
		if err == nil {
			err = check.read(&v)
		}
		if err != nil {
			return 0, err
		}
		allocations = append(allocations, v.Allocations)
		return v.Took, check.stop()
	}})
	if err != nil {
		return err
	}
	judge("check of a token", all[0], "µs", atMost(1))
	judge("allocations", allocations[1:], "", atMost(1))
	return nil
}

// verified is what a check of a token costs.
type verified struct {
	Took        float64 // µs
	Allocations float64
}

// verifyTokens measures the check of a token.
func verifyTokens(args []string, c *control) error {
	_, err := withEngine(args[0], integrator.Retention{}, func(ctx context.Context, engine *integrator.Engine, _ store.Store) error {
		users, token, err := logIn(ctx, engine)
		if err != nil {
			return err
		}
		call := &http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}
		result := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				if _, e := users.Verify(ctx, call); e != nil {
					err = e
					b.FailNow()
				}
			}
		})
		if err != nil {
			return fmt.Errorf("check a token: %w", err)
		}
		return c.report(verified{float64(result.T.Nanoseconds()) / float64(result.N) / 1000, float64(result.AllocsPerOp())})
	})
	return err
}
