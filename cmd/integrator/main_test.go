package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"integrator": func() {
		go followParent(os.Getppid())
		main()
	}})
}

// followParent ends the process when the test that started it is gone, which may have been killed or have run out of time: nobody else would stop a server.
func followParent(parent int) {
	for range time.Tick(time.Second) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// TestCommand plays the scripts with the command as a process of its own.
func TestCommand(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // a second a process otherwise, under the race detector
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"address": address, "ready": ready, "stopping": stopping, "running": running, "http": call, "remember": remember, "token": token, "terminate": terminate,
			"code": code, "mode": mode, "certificate": certificate, "crashed": crashed, "damage": damage,
		},
	})
}

// patience is how long a script waits for what must happen.
const patience = 20 * time.Second

// eventually asks until the answer is yes.
func eventually(ts *testscript.TestScript, what string, yes func() bool) {
	for deadline := time.Now().Add(patience); !yes(); {
		if time.Now().After(deadline) {
			ts.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// address sets variables to free addresses: `address A B`.
func address(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Setenv(name, l.Addr().String())
		defer l.Close() // all of them are taken until each has one
	}
}

// client trusts the script's certificate, if it made one.
func clientOf(ts *testscript.TestScript) *http.Client {
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(ts.MkAbs("cert.pem")); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// ready waits until a server takes calls: `ready http://$A`.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	client := clientOf(ts)
	eventually(ts, args[0]+" is ready", func() bool {
		response, err := client.Get(args[0] + "/readyz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// stopping waits until a server answers that it takes no more calls: `stopping http://$A`.
func stopping(ts *testscript.TestScript, _ bool, args []string) {
	client := clientOf(ts)
	eventually(ts, args[0]+" stops", func() bool {
		response, err := client.Get(args[0] + "/readyz")
		ts.Check(err)
		response.Body.Close()
		return response.StatusCode == http.StatusServiceUnavailable
	})
}

// running waits until a run is being executed: `running http://$A TOKEN`.
func running(ts *testscript.TestScript, _ bool, args []string) {
	client := clientOf(ts)
	eventually(ts, "a run executes", func() bool {
		request, err := http.NewRequest("GET", args[0]+"/rest/v1/runs?status=running", nil)
		ts.Check(err)
		request.Header.Set("Authorization", "Bearer "+args[1])
		response, err := client.Do(request)
		ts.Check(err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		ts.Check(err)
		return bytes.Contains(body, []byte(`"running"`))
	})
}

// call sends a request and gives the status and the body to stdout: `http POST $URL file [TOKEN]`; the file - is no body.
func call(ts *testscript.TestScript, _ bool, args []string) {
	var body io.Reader
	if args[2] != "-" {
		body = strings.NewReader(ts.ReadFile(args[2]))
	}
	request, err := http.NewRequest(args[0], args[1], body)
	ts.Check(err)
	if len(args) > 3 {
		request.Header.Set("Authorization", "Bearer "+args[3])
	}
	response, err := clientOf(ts).Do(request)
	ts.Check(err)
	defer response.Body.Close()
	fmt.Fprintln(ts.Stdout(), response.StatusCode)
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
}

// token fetches a token into TOKEN: `token http://$A LOGIN PASSWORD`. Negated: it is refused.
func token(ts *testscript.TestScript, neg bool, args []string) {
	body, err := json.Marshal(map[string]string{"login": args[1], "password": args[2]})
	ts.Check(err)
	response, err := clientOf(ts).Post(args[0]+"/rest/v1/token-auth/issue", "application/json", bytes.NewReader(body))
	ts.Check(err)
	defer response.Body.Close()
	var answer struct{ Token string }
	ts.Check(json.NewDecoder(response.Body).Decode(&answer))
	if (response.StatusCode == http.StatusOK) == neg {
		ts.Fatalf("token of %s: status %d", args[1], response.StatusCode)
	}
	ts.Setenv("TOKEN", answer.Token)
}

// remember sets a variable to a field of the answer that `http` printed: `remember MESSAGE messageUuid`.
func remember(ts *testscript.TestScript, _ bool, args []string) {
	_, body, _ := strings.Cut(ts.ReadFile("stdout"), "\n")
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(body), &fields))
	ts.Setenv(args[0], fmt.Sprint(fields[args[1]]))
}

// terminate sends SIGTERM to the processes in the background.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
	}
}

// crashed leaves in a folder what a crashed server leaves: a socket that nobody serves.
func crashed(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("unix", filepath.Join(ts.MkAbs(args[0]), "control.sock"))
	ts.Check(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// damage flips a bit of a text wherever it stands in a file: `damage data/integrator.db text`.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	content, err := os.ReadFile(path)
	ts.Check(err)
	text := []byte(args[1])
	if !bytes.Contains(content, text) {
		ts.Fatalf("%s is not in %s", args[1], args[0])
	}
	flipped := append([]byte{text[0] ^ 1}, text[1:]...)
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(content, text, flipped), 0o600)) // also where it stood before
}

// code runs a program and wants that exit code: `code 3 integrator run …`.
func code(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// mode wants a file's mode: `mode Srw------- data/control.sock`.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := info.Mode().String(); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// certificate makes cert.pem and key.pem for 127.0.0.1.
func certificate(ts *testscript.TestScript, _ bool, _ []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(block), 0o600))
	}
}
