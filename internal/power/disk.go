package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// disk is what a disk surely has after some steps of a trace, and what it may have beyond that.
type disk struct {
	files   map[*node]*file
	folders map[*node]map[string]*node // entries that are durable
	names   []*change                  // of names, that are not, wholly or in part, in their order
	own     map[*change]*change        // of changes that have not returned
	covers  map[int][]*change          // by sync under way
	owed    map[*change]bool           // that a sync which was left out would have made durable
}

// file is the content of a file.
type file struct {
	durable content
	pending []*change // in their order
}

const (
	pageSize   = 4096
	sectorSize = 512
)

// content is bytes by page; a nil page is a hole. Pages are shared and never changed.
type content struct {
	size  int64
	pages [][]byte
}

func newDisk(top *node) *disk {
	return &disk{files: map[*node]*file{}, folders: map[*node]map[string]*node{top: {}}, own: map[*change]*change{}, covers: map[int][]*change{}, owed: map[*change]bool{}}
}

func (d *disk) file(n *node) *file {
	f := d.files[n]
	if f == nil {
		f = &file{}
		d.files[n] = f
	}
	return f
}

// take takes a step. It reports whether what a crash leaves may differ from what it left before.
func (d *disk) take(s step) bool {
	switch s.kind {
	case changing:
		own := *s.change // the trace is read once, and may become several disks
		d.own[s.change] = &own
		if own.node != nil {
			f := d.file(own.node)
			f.pending = append(f.pending, &own)
		} else {
			d.names = append(d.names, &own)
		}
		return true
	case changed:
		d.own[s.change].done = true
		delete(d.own, s.change)
		return false
	case syncing:
		from := d.names
		if s.node.folder == nil {
			from = d.file(s.node).pending
		}
		var covered []*change
		for _, c := range from {
			if c.done {
				covered = append(covered, c)
			}
		}
		d.covers[s.call] = covered
		return false
	case synced:
		covered := d.covers[s.call]
		delete(d.covers, s.call)
		for _, c := range covered {
			if delete(d.owed, c); s.leftOut {
				d.owed[c] = true
			}
		}
		if s.leftOut {
			return len(covered) > 0
		}
		if s.node.folder != nil {
			return d.syncNames(s.node, covered)
		}
		f, any := d.file(s.node), false
		f.pending = slices.DeleteFunc(f.pending, func(c *change) bool {
			if !slices.Contains(covered, c) {
				return false
			}
			any = true
			f.durable.apply(c, all, whole)
			return true
		})
		return any
	}
	return true
}

// syncNames makes changes of names in a folder durable. Of one that moves a file out of it, all of it: a file is never without a name.
func (d *disk) syncNames(folder *node, covered []*change) bool {
	any := false
	d.names = slices.DeleteFunc(d.names, func(c *change) bool {
		if !slices.Contains(covered, c) {
			return false
		}
		away := slices.ContainsFunc(c.names, func(n name) bool { return n.folder == folder && n.to == nil })
		c.names = slices.DeleteFunc(slices.Clone(c.names), func(n name) bool {
			if n.folder != folder && !away {
				return false
			}
			any = true
			d.set(d.folders, n)
			return true
		})
		return len(c.names) == 0
	})
	return any
}

func (d *disk) set(folders map[*node]map[string]*node, n name) {
	entries := folders[n.folder]
	if entries == nil {
		entries = map[string]*node{}
		folders[n.folder] = entries
	}
	if n.to == nil {
		delete(entries, n.name)
	} else {
		entries[n.name] = n.to
	}
}

// whole is a unit that is larger than every file.
const whole = 1 << 62

func all(int64) bool { return true }

// apply puts a change into the units of the content that keep wants.
func (c *content) apply(ch *change, keep func(unit int64) bool, unit int64) {
	if ch.data == nil {
		c.resize(ch.at)
		return
	}
	c.resize(max(c.size, ch.at+int64(len(ch.data))))
	for at, data := ch.at, ch.data; len(data) > 0; {
		n := min(int64(len(data)), unit-at%unit)
		if keep(at / unit) {
			c.put(at, data[:n])
		}
		at, data = at+n, data[n:]
	}
}

func (c *content) resize(size int64) {
	pages := int((size + pageSize - 1) / pageSize)
	if pages < len(c.pages) {
		c.pages = c.pages[:pages:pages]
	}
	if size < c.size && size%pageSize > 0 && c.pages[pages-1] != nil { // what comes behind is zero, should it grow again
		page := make([]byte, pageSize)
		copy(page, c.pages[pages-1][:size%pageSize])
		c.pages[pages-1] = page
	}
	if pages > len(c.pages) {
		c.pages = append(c.pages, make([][]byte, pages-len(c.pages))...)
	}
	c.size = size
}

// bytes returns some of the bytes.
func (c *content) bytes(at, n int64) []byte {
	text := make([]byte, n)
	for i := range text {
		if page := c.pages[(at+int64(i))/pageSize]; page != nil {
			text[i] = page[(at+int64(i))%pageSize]
		}
	}
	return text
}

func (c *content) put(at int64, data []byte) {
	for len(data) > 0 {
		n := min(int64(len(data)), pageSize-at%pageSize)
		page := make([]byte, pageSize)
		copy(page, c.pages[at/pageSize])
		copy(page[at%pageSize:], data[:n])
		c.pages[at/pageSize] = page
		at, data = at+n, data[n:]
	}
}

// image is what a crash leaves: files by their paths, with folders, whose content is nil.
type image map[string]*content

// crash makes an image of what the disk may have; of all that was written if random is nil.
func (d *disk) crash(random *rand.Rand, top *node) image {
	folders := make(map[*node]map[string]*node, len(d.folders))
	for n, entries := range d.folders {
		folders[n] = make(map[string]*node, len(entries))
		for k, v := range entries {
			folders[n][k] = v
		}
	}
	if random == nil {
		for _, c := range d.names {
			for _, n := range c.names {
				d.set(folders, n)
			}
		}
	} else {
		d.crashNames(random, folders)
	}
	im := image{}
	had := map[*node]*content{} // by file, which may have two names
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		names := make([]string, 0, len(folders[n]))
		for k := range folders[n] {
			names = append(names, k)
		}
		slices.Sort(names) // the same image each time
		for _, k := range names {
			to, path := folders[n][k], filepath.Join(path, k)
			if to.folder != nil {
				im[path] = nil
				walk(to, path)
				continue
			}
			if had[to] == nil {
				had[to] = d.file(to).crash(random)
			}
			im[path] = had[to]
		}
	}
	walk(top, "")
	return im
}

// crashNames applies some of the changes of names that are not durable: either the first of them, as a file system that journals them does, or any. A change
// that needs one before it which is not applied is not.
func (d *disk) crashNames(random *rand.Rand, folders map[*node]map[string]*node) {
	type place struct {
		folder *node
		name   string
	}
	blocked := map[place]bool{}
	first, inOrder, likely := random.IntN(len(d.names)+1), random.IntN(2) == 0, random.Float64()
	for i, c := range d.names {
		keep := i < first
		if !inOrder {
			keep = random.Float64() < likely
		}
		for _, n := range c.names {
			keep = keep && !blocked[place{n.folder, n.name}]
		}
		for _, n := range c.names {
			if keep {
				d.set(folders, n)
			} else {
				blocked[place{n.folder, n.name}] = true
			}
		}
	}
}

// crash makes a content of what the disk may have of a file. A unit of it has the first so many of the changes that are not durable: pages are written
// as they are in memory at some moment, each at its own, and are torn at sectors.
func (f *file) crash(random *rand.Rand) *content {
	c := &content{f.durable.size, slices.Clone(f.durable.pages)}
	if len(f.pending) == 0 {
		return c
	}
	if random == nil {
		for _, ch := range f.pending {
			c.apply(ch, all, whole)
		}
		return c
	}
	unit, count := int64(sectorSize), len(f.pending)
	if random.IntN(3) == 0 {
		unit = pageSize
	}
	first := random.IntN(count + 1)
	seed, likely := random.Uint64(), random.Float64()
	dice := func(unit int64, of int) int { // the same for a unit each time
		return rand.New(rand.NewPCG(seed, uint64(unit))).IntN(of)
	}
	var some func(unit int64) int // how many changes a unit has
	switch random.IntN(8) {
	case 0: // none
		some = func(int64) int { return 0 }
	case 1: // all
		some = func(int64) int { return count }
	case 2, 3: // the first, and of the next one some units
		some = func(unit int64) int { return first + dice(unit, 2) }
	case 4: // any
		some = func(unit int64) int { return dice(unit, count+1) }
	case 5: // all or none, by unit
		some = func(unit int64) int {
			if float64(dice(unit, 1000)) < 1000*likely {
				return count
			}
			return 0
		}
	default: // some changes wholly, and with each what was written to its units before
		last := map[int64]int{}
		for i, ch := range f.pending {
			if random.Float64() < likely {
				for u := ch.at / unit; u*unit < ch.at+int64(len(ch.data)); u++ {
					last[u] = i + 1
				}
			}
		}
		some = func(unit int64) int { return last[unit] }
	}
	sizes := []int64{c.size}
	for i, ch := range f.pending {
		c.apply(ch, func(unit int64) bool { return i < some(unit) }, unit)
		sizes = append(sizes, c.size)
	}
	switch random.IntN(4) { // of the size a file may have less, or more than of its bytes, which are zeros then
	case 0:
		c.resize(sizes[random.IntN(len(sizes))])
	case 1:
		c.resize(sizes[first])
	}
	return c
}

// write puts an image into a folder, which is empty.
func (im image) write(dir string) error {
	paths := make([]string, 0, len(im))
	for path := range im {
		paths = append(paths, path)
	}
	slices.Sort(paths) // a folder before what is in it
	for _, path := range paths {
		c, path := im[path], filepath.Join(dir, path)
		if c == nil {
			if err := os.Mkdir(path, 0o700); err != nil {
				return err
			}
			continue
		}
		if err := c.write(path); err != nil {
			return err
		}
	}
	return nil
}

func (c *content) write(path string) error {
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.Truncate(c.size); err != nil {
		return err
	}
	var together []byte // of pages that follow each other: a call for each takes longer than all else
	for i := 0; i < len(c.pages); i++ {
		from := int64(i) * pageSize
		for together = together[:0]; i < len(c.pages) && c.pages[i] != nil; i++ {
			together = append(together, c.pages[i]...)
		}
		if len(together) == 0 {
			continue
		}
		if _, err := to.WriteAt(together[:min(int64(len(together)), c.size-from)], from); err != nil {
			return err
		}
	}
	return nil
}
