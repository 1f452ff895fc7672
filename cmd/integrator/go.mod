module github.com/integrator-go/integrator/cmd/integrator

go 1.26.0
