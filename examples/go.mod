module github.com/integrator-go/integrator/examples

go 1.26.0
