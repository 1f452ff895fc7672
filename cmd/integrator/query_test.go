package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestValuesThatAQueryDoesNotTake: what a caller gives for a parameter is no fault of the server, whatever the database says to it.
func TestValuesThatAQueryDoesNotTake(t *testing.T) {
	t.Parallel()
	s := newShop(t, "create table t (id integer primary key); insert into t values (1), (2)", `
connections: {db: {type: sql, driver: sqlite, path: shop.db}}
listeners:
  bound: {path: /bound, method: GET, mode: sync}
  fixed: {path: /fixed, method: GET, mode: sync}
flows:
  bound: {listener: bound, params: {limit: int}, from: {connection: db, query: "select id from t order by id limit :limit"}, respond: {}}
  fixed: {listener: fixed, from: {connection: db, query: "select id from t limit 'x'"}, respond: {}}
`)
	for path, want := range map[string]int{"bound?limit=1": 200, "bound": 422, "bound?limit=99999999999999999999": 422, "fixed": 500} {
		r := httptest.NewRequest(http.MethodGet, "/rest/v1/httplistener/"+path, nil)
		r.Header.Set("Authorization", "Bearer "+s.token)
		w := httptest.NewRecorder()
		if s.engine.Handler().ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
