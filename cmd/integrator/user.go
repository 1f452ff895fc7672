package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

type userCommands struct {
	Data string `default:"data" placeholder:"DIR" help:"Folder of the store (${default})."`

	Add     userAdd     `cmd:"" help:"Make a user."`
	List    userList    `cmd:"" help:"List the users."`
	Grant   userGrant   `cmd:"" help:"Grant listeners and flows to a user."`
	Passwd  userPasswd  `cmd:"" help:"Change a user's password."`
	Disable userDisable `cmd:"" help:"Lock a user out."`
	Enable  userEnable  `cmd:"" help:"Let a user in again."`
	Remove  userRemove  `cmd:"" help:"Remove a user."`
	Key     keyCommands `cmd:"" help:"Make, list and revoke API keys."`
}

// reach calls use with a client of whoever holds the store. An engine of the command's own needs no definitions.
func (u *userCommands) reach(ctx context.Context, use func(*client) error) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return reach(ctx, setup{data: u.Data, logger: logger}, use)
}

// existing calls use when there is a user of that login: a change makes none.
func (u *userCommands) existing(ctx context.Context, login string, use func(*client, user) error) error {
	return u.reach(ctx, func(c *client) error {
		held, err := c.user(ctx, login)
		if err != nil {
			return fmt.Errorf("user %q: %w", login, err)
		}
		return use(c, held)
	})
}

// grantFlags are what an api user may use.
type grantFlags struct {
	Listener []string `sep:"none" placeholder:"NAME" help:"Grant a listener; NAME may end with *. Repeat for more."`
	Flow     []string `sep:"none" placeholder:"NAME" help:"Grant a flow; NAME may end with *. Repeat for more."`
	Grant    []string `sep:"none" placeholder:"NAME" help:"Grant listeners and flows of that name. Repeat for more."`
}

// listeners and flows are never nil: an empty list takes grants back, none would leave them.
func (g grantFlags) listeners() []string { return union(g.Listener, g.Grant) }
func (g grantFlags) flows() []string     { return union(g.Flow, g.Grant) }

type userAdd struct {
	Login   string   `arg:"" help:"Login of the new user."`
	Role    string   `required:"" enum:"viewer,api,operator,editor,admin" placeholder:"ROLE" help:"viewer, api, operator, editor or admin."`
	Network []string `sep:"none" placeholder:"CIDR" help:"Network that the user may fetch tokens from, such as 10.0.0.0/8; without one, from everywhere. Repeat for more."`
	grantFlags
	passwordFlags
}

func (userAdd) Help() string {
	return `The password is asked for, unless it comes from standard input or is made here; it is never part of the command line.

Example:

    integrator user add shop --role api --listener orders --flow nightly-export`
}

func (a *userAdd) Run(ctx context.Context, u *userCommands) error {
	password, err := a.password(ctx)
	if err != nil {
		return err
	}
	return u.reach(ctx, func(c *client) error {
		var p *problem
		if _, err := c.user(ctx, a.Login); err == nil {
			return usagef("user %q exists already: change it with user passwd or user grant", a.Login)
		} else if !errors.As(err, &p) || p.status != 404 {
			return err
		}
		err := c.change(ctx, a.Login, map[string]any{"role": a.Role, "password": password, "listeners": a.listeners(), "flows": a.flows(), "networks": a.Network})
		if err == nil {
			a.show(password)
		}
		return err
	})
}

type userList struct{}

func (userList) Help() string {
	return `Users of the definitions are listed while a server holds the store.

Example:

    integrator user list`
}

func (userList) Run(ctx context.Context, u *userCommands) error {
	return u.reach(ctx, func(c *client) error {
		users, err := c.users(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "LOGIN\tROLE\tLISTENERS\tFLOWS\tNETWORKS\tSTATE")
		for _, held := range users {
			state := "enabled"
			switch {
			case held.Disabled:
				state = "disabled"
			case held.Owner != "http":
				state = "defined"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", held.Login, held.Role, names(held.Listeners), names(held.Flows), names(held.Networks), state)
		}
		return table.Flush()
	})
}

func names(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}

type userGrant struct {
	Login string `arg:"" help:"Login of the user."`
	grantFlags
	Replace bool `help:"Take back what was granted before."`
}

func (userGrant) Help() string {
	return `Tokens that are out end.

Example:

    integrator user grant shop --listener price-quote`
}

func (g *userGrant) Run(ctx context.Context, u *userCommands) error {
	listeners, flows := g.listeners(), g.flows()
	if len(listeners)+len(flows) == 0 && !g.Replace {
		return usagef("what to grant is missing: give --listener, --flow or --grant")
	}
	return u.existing(ctx, g.Login, func(c *client, held user) error {
		if !g.Replace {
			listeners, flows = union(held.Listeners, listeners), union(held.Flows, flows)
		}
		return c.change(ctx, g.Login, map[string]any{"listeners": listeners, "flows": flows})
	})
}

func union(a, b []string) []string {
	all := []string{}
	for _, name := range slices.Concat(a, b) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

type userPasswd struct {
	Login string `arg:"" help:"Login of the user."`
	passwordFlags
}

func (userPasswd) Help() string {
	return `Tokens that are out end, and API keys.

Example:

    integrator user passwd shop --password-stdin < new-password`
}

func (p *userPasswd) Run(ctx context.Context, u *userCommands) error {
	password, err := p.password(ctx)
	if err != nil {
		return err
	}
	if password == "" {
		return usagef("the password is empty")
	}
	return u.existing(ctx, p.Login, func(c *client, _ user) error {
		err := c.change(ctx, p.Login, map[string]any{"password": password})
		if err == nil {
			p.show(password)
		}
		return err
	})
}

type userDisable struct {
	Login string `arg:"" help:"Login of the user."`
}

func (userDisable) Help() string {
	return `Tokens that are out end, and API keys.

Example:

    integrator user disable shop`
}

func (d *userDisable) Run(ctx context.Context, u *userCommands) error {
	return u.existing(ctx, d.Login, func(c *client, _ user) error {
		return c.change(ctx, d.Login, map[string]any{"disabled": true})
	})
}

type userEnable struct {
	Login string `arg:"" help:"Login of the user."`
}

func (userEnable) Help() string {
	return `Example:

    integrator user enable shop`
}

func (e *userEnable) Run(ctx context.Context, u *userCommands) error {
	return u.existing(ctx, e.Login, func(c *client, _ user) error {
		return c.change(ctx, e.Login, map[string]any{"disabled": false})
	})
}

type userRemove struct {
	Login string `arg:"" help:"Login of the user."`
}

func (userRemove) Help() string {
	return `Tokens that are out end, and API keys.

Example:

    integrator user remove shop`
}

func (r *userRemove) Run(ctx context.Context, u *userCommands) error {
	return u.existing(ctx, r.Login, func(c *client, _ user) error {
		return c.call(ctx, "DELETE", userRoute(r.Login), nil, nil, nil)
	})
}
