package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const embedder = `package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/integrator-go/integrator"
)

func main() {
	engine, err := integrator.New(integrator.Config{Dir: "data", Definitions: os.DirFS("flows")})
	if err != nil {
		log.Fatal(err)
	}
	go http.ListenAndServe("127.0.0.1:8080", engine.Handler())
	log.Fatal(engine.Run(context.Background()))
}
`

// embed builds a program outside of the workspace that imports the root module alone.
func embed(c *config) error {
	const root = "github.com/integrator-go/integrator"
	checkout, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", root).Output()
	if err != nil {
		return fmt.Errorf("find the checkout: %w", err)
	}
	folder := strings.TrimSpace(string(checkout))
	dir := filepath.Join(c.dir, "p10")
	sums, err := os.ReadFile(filepath.Join(folder, "go.sum"))
	if err != nil {
		return err
	}
	module := fmt.Sprintf("module embedder\n\ngo 1.26.0\n\nrequire %s v0.0.0\n\nreplace %s => %s\n", root, root, folder)
	for name, text := range map[string]string{"main.go": embedder, "go.mod": module, "go.sum": string(sums)} {
		if err := write(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	program := filepath.Join(dir, "embedder")
	command := exec.Command("go", "build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	command.Dir, command.Env, command.Stderr = dir, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0"), os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("build the program: %w", err)
	}
	file, err := os.Stat(program)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	judge("size, stripped", figures{float64(file.Size()) / mega}, "MB", atMost(16))
	judge("linked modules", figures{float64(len(info.Deps))}, "", atMost(25))
	for _, m := range info.Deps {
		row("", m.Path+" "+m.Version)
	}
	return nil
}
