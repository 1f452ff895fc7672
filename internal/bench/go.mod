module github.com/integrator-go/integrator/internal/bench

go 1.26.0
