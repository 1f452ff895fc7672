package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// passwordFlags say where a password comes from. There is no flag that holds one: others can read a command line.
type passwordFlags struct {
	PasswordStdin bool `xor:"password" help:"Read the password from standard input instead of asking for it."`
	Generate      bool `xor:"password" help:"Make a password and print it, once."`
}

// maxInput is more than a password can have, in bytes.
const maxInput = 64 << 10

// password returns the password to set.
func (f passwordFlags) password(ctx context.Context) (string, error) {
	switch {
	case f.Generate:
		return rand.Text(), nil
	case f.PasswordStdin:
		text, err := io.ReadAll(io.LimitReader(os.Stdin, maxInput))
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return "", usagef("there is no terminal to ask for the password: use --password-stdin or --generate")
	}
	first, err := ask(ctx, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask(ctx, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", usagef("the two passwords differ")
	}
	return first, nil
}

// ask reads a line from the terminal without showing it. Interrupted, it gives the terminal back as it was and ends the process, which holds
// nothing yet.
func ask(ctx context.Context, prompt string) (string, error) {
	terminal := int(os.Stdin.Fd())
	before, err := term.GetState(terminal)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		term.Restore(terminal, before)
		os.Exit(exitFailure)
	})
	defer stop()
	fmt.Fprint(os.Stderr, prompt)
	text, err := term.ReadPassword(terminal)
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(text), nil
}

// show prints the password if it was made here.
func (f passwordFlags) show(password string) {
	if f.Generate {
		fmt.Println(password)
	}
}
