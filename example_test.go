package integrator_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing/fstest"

	"github.com/integrator-go/integrator"
	"github.com/integrator-go/integrator/auth"
)

// A service mounts the engine beside its own routes. Definitions are a folder of files in practice: os.DirFS("flows").
func Example() {
	dir, _ := os.MkdirTemp("", "integrator")
	defer os.RemoveAll(dir)
	flows := fstest.MapFS{"flows.yaml": {Data: []byte(`
listeners:
  quote: {path: /quote, format: json, mode: sync}
flows:
  quote:
    from: {listener: quote}
    steps:
      - map: {sku: sku, price: "= qty >= 10 ? 9.5 : 10"}
    respond: {format: json}
`)}}

	engine, err := integrator.New(integrator.Config{Dir: dir, Definitions: flows})
	if err != nil {
		fmt.Println(err) // every fault, with file, line and column
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()
	<-engine.Ready()
	users, _ := engine.Auth()
	users.Save(ctx, auth.User{Login: "shop", Role: auth.API, Listeners: []string{"quote"}}, "a long password")

	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the host's own route") })
	mux.Handle("/", engine.Handler())
	server := httptest.NewServer(mux)
	defer server.Close()

	token := post(server.URL+"/rest/v1/token-auth/issue", "", `{"login": "shop", "password": "a long password"}`)
	token = strings.Split(token, `"`)[3]
	fmt.Print(post(server.URL+"/rest/v1/httplistener/quote", token, `{"sku": "A-1", "qty": 12}`))
	fmt.Print(post(server.URL+"/hello", "", ""))
	stop()
	fmt.Println(<-done)
	// Output:
	// {"sku":"A-1","price":9.5}
	// the host's own route
	// <nil>
}

// Below a prefix, the engine sees its routes without it.
func ExampleEngine_Handler_prefix() {
	dir, _ := os.MkdirTemp("", "integrator")
	defer os.RemoveAll(dir)
	engine, err := integrator.New(integrator.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	go engine.Run(context.Background())
	<-engine.Ready()
	defer engine.Close()

	mux := http.NewServeMux()
	mux.Handle("/integration/", http.StripPrefix("/integration", engine.Handler()))
	server := httptest.NewServer(mux)
	defer server.Close()
	response, err := http.Get(server.URL + "/integration/readyz")
	if err != nil {
		fmt.Println(err)
		return
	}
	response.Body.Close()
	fmt.Println(response.Status)
	// Output: 200 OK
}

// post sends a body and returns the answer's.
func post(url, token, body string) string {
	request, _ := http.NewRequest("POST", url, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return string(text)
}
