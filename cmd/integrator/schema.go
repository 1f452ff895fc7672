package main

import (
	"os"

	"github.com/integrator-go/integrator"
)

type schemaCommand struct{}

func (schemaCommand) Help() string {
	return `Editors complete and check definitions with it, such as VS Code's YAML extension, which takes it for files that begin with

    # yaml-language-server: $schema=integrator.schema.json

It says which keys there are and what they take; integrator check finds the rest.

Example:

    integrator schema > integrator.schema.json`
}

func (schemaCommand) Run() error {
	_, err := os.Stdout.Write(integrator.Schema(integrator.Config{Drivers: drivers()}))
	return err
}
