package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestServe(t *testing.T) { // not parallel: the example works in the current folder
	t.Chdir(t.TempDir())
	if err := os.Mkdir("flows", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("flows/a.yaml", []byte("flows: {a: {respond: {}}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, listener) }()
	url := "http://" + listener.Addr().String()
	if got := get(t, url+"/hello"); got != "a route of the host's own\n" {
		t.Errorf("/hello: %q", got)
	}
	for !strings.Contains(get(t, url+"/readyz"), `"ready"`) {
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
