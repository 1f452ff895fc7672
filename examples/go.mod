module github.com/integrator-go/integrator/examples

go 1.26.0

require (
	github.com/integrator-go/integrator v0.0.0
	github.com/integrator-go/integrator/connector/sqldb/sqlite v0.0.0
)
