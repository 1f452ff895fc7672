package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestStopUnderLoad stops the server with SIGTERM again and again while clients send orders, and while uploads are under way: whatever the server
// has begun to read is answered, with a receipt or with 503, an upload that never ends among it. No connection is cut, the server ends in order,
// and in the end each acknowledged order is in the table once. INTEGRATOR_STOPS is how often, 3 times unless set.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	stops := 3
	if text := os.Getenv("INTEGRATOR_STOPS"); text != "" {
		var err error
		if stops, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	const clients, uploads = 4, 4
	s := newVictim(t, ordersDefinitions)
	var next, acknowledged, refused atomic.Int64
	for stop := range stops {
		s.start()
		token, err := s.token()
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		before := acknowledged.Load()
		for range clients {
			group.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for {
					order := fmt.Sprintf(`{"id": %d, "qty": 3, "price": 105.55}`, next.Add(1))
					request, _ := http.NewRequest("POST", "http://"+s.address+"/rest/v1/httplistener/orders", strings.NewReader(order))
					request.Header.Set("Authorization", "Bearer "+token)
					response, err := client.Do(request)
					if err != nil {
						if !strings.Contains(err.Error(), "connection refused") {
							t.Errorf("a call was cut: %v", err)
						}
						return
					}
					response.Body.Close()
					switch response.StatusCode {
					case http.StatusOK:
						acknowledged.Add(1)
					case http.StatusServiceUnavailable:
						refused.Add(1)
						if response.Header.Get("Retry-After") == "" {
							t.Error("503 does not say when to come again")
						}
						return
					default:
						t.Errorf("an order is answered with %d", response.StatusCode)
						return
					}
				}
			})
		}
		open := make([]*upload, uploads)
		if stop == 0 { // the last of them never ends
			open = make([]*upload, uploads+1)
		}
		for i := range open {
			open[i] = s.upload(token, fmt.Sprintf(`{"id": %d, "qty": 3, "price": 105.55}`, next.Add(1)))
		}
		for acknowledged.Load() < before+20 && !t.Failed() {
		}
		if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for i, u := range open {
			group.Go(func() {
				switch status, err := u.finish(i < uploads); {
				case err != nil:
					t.Errorf("upload %d was cut: %v", i, err)
				case status == http.StatusOK && i < uploads:
					acknowledged.Add(1)
				case status != http.StatusServiceUnavailable:
					t.Errorf("upload %d is answered with %d", i, status)
				}
			})
		}
		group.Wait()
		if err := s.process.Wait(); err != nil {
			t.Fatalf("the server ended with %v\n%s", err, &s.log)
		}
		down := make(chan struct{})
		s.up.Store(&down)
	}
	s.start()
	s.settle(2 * int(acknowledged.Load()))
	s.stop()
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "warehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows, different int64
	if err := db.QueryRow("select count(*), count(distinct id) from orders").Scan(&rows, &different); err != nil {
		t.Fatal(err)
	}
	if want := acknowledged.Load(); rows != want || different != want {
		t.Errorf("the table has %d rows of %d orders, want %d", rows, different, want)
	}
	t.Logf("%d stops, %d orders acknowledged, %d calls refused", stops, acknowledged.Load(), refused.Load())
}

// upload is a call whose body the server has begun to read.
type upload struct {
	net.Conn
	answers *bufio.Reader
	body    string
}

// upload sends the head of a call, and returns when the server asks for its body.
func (s *victim) upload(token, body string) *upload {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /rest/v1/httplistener/orders HTTP/1.1\r\nHost: integrator\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		token, len(body))
	u := &upload{conn, bufio.NewReader(conn), body}
	response, err := http.ReadResponse(u.answers, nil)
	if err != nil || response.StatusCode != http.StatusContinue {
		s.t.Fatalf("the server does not ask for the body: %v %v", response, err)
	}
	return u
}

// finish sends the body, or a part of it, and returns how the call is answered.
func (u *upload) finish(whole bool) (int, error) {
	body := u.body
	if !whole {
		body = body[:10]
	}
	if _, err := u.Write([]byte(body)); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(u.answers, nil)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// TestServerLimits: the command's server waits for no head and no next call without end, and takes heads of a bounded size.
func TestServerLimits(t *testing.T) {
	t.Parallel()
	s := newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > time.Minute || s.IdleTimeout <= 0 || s.IdleTimeout > 10*time.Minute || s.MaxHeaderBytes <= 0 || s.MaxHeaderBytes > 1<<20 {
		t.Errorf("ReadHeaderTimeout %v, IdleTimeout %v, MaxHeaderBytes %d", s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
}
