package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

type keyCommands struct {
	Add    keyAdd    `cmd:"" help:"Make an API key and show it, once."`
	List   keyList   `cmd:"" help:"List a user's API keys."`
	Revoke keyRevoke `cmd:"" help:"End an API key."`
}

// apiKey is an API key as the routes show it.
type apiKey struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"` // zero: never
	Ends    string    `json:"ends"`
}

func keysRoute(login string) string { return userRoute(login) + "/keys" }

type keyAdd struct {
	Login   string `arg:"" help:"Login of the user."`
	Name    string `arg:"" help:"Name of the key, such as the machine that will hold it."`
	Expires string `placeholder:"DATE" help:"Day or time at which it ends, as 2027-01-31 (in UTC) or 2027-01-31T12:00:00+01:00; without one, when it is revoked."`
}

func (keyAdd) Help() string {
	return `The key is sent as tokens are: Authorization: Bearer KEY. It is written to standard output, and nothing shows it again. It ends when it is
revoked, and when the user is disabled, removed or gets another password.

Example:

    integrator user key add shop press-3 --expires 2027-01-31`
}

func (a *keyAdd) Run(ctx context.Context, u *userCommands) error {
	wanted := map[string]any{"name": a.Name}
	if a.Expires != "" {
		expires, err := time.Parse(time.DateOnly, a.Expires)
		if err != nil {
			expires, err = time.Parse(time.RFC3339, a.Expires)
		}
		if err != nil {
			return usagef("--expires %q is no date as 2027-01-31 and no time as 2027-01-31T12:00:00Z", a.Expires)
		}
		wanted["expires"] = expires
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	return u.reach(ctx, func(c *client) error {
		var made struct{ Key string }
		if err := c.call(ctx, "POST", keysRoute(a.Login), nil, bytes.NewReader(body), &made); err != nil {
			return fmt.Errorf("user %q: %w", a.Login, err)
		}
		fmt.Println(made.Key)
		return nil
	})
}

type keyList struct {
	Login string `arg:"" help:"Login of the user."`
}

func (keyList) Help() string {
	return `Example:

    integrator user key list shop`
}

func (l *keyList) Run(ctx context.Context, u *userCommands) error {
	return u.reach(ctx, func(c *client) error {
		var list struct{ Keys []apiKey }
		if err := c.call(ctx, "GET", keysRoute(l.Login), nil, nil, &list); err != nil {
			return fmt.Errorf("user %q: %w", l.Login, err)
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tENDS IN\tCREATED\tEXPIRES")
		for _, k := range list.Keys {
			expires := "never"
			if !k.Expires.IsZero() {
				expires = k.Expires.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(table, "%s\t…%s\t%s\t%s\n", k.Name, k.Ends, k.Created.UTC().Format(time.RFC3339), expires)
		}
		return table.Flush()
	})
}

type keyRevoke struct {
	Login string `arg:"" help:"Login of the user."`
	Name  string `arg:"" help:"Name of the key."`
}

func (keyRevoke) Help() string {
	return `Example:

    integrator user key revoke shop press-3`
}

func (r *keyRevoke) Run(ctx context.Context, u *userCommands) error {
	if strings.ContainsAny(r.Name, `/\`) || r.Name == "" {
		return usagef("%q is no name of an API key", r.Name)
	}
	return u.reach(ctx, func(c *client) error {
		if err := c.call(ctx, "DELETE", keysRoute(r.Login)+"/"+r.Name, nil, nil, nil); err != nil {
			return fmt.Errorf("user %q: %w", r.Login, err)
		}
		return nil
	})
}
