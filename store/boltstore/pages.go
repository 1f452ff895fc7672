package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sort"
)

// image is a database file as it lies on the disk: bbolt's pages, read one by one and never mapped, so that damage is an error where the
// database itself would panic, fault or walk in circles. It is what tells how much of a damaged file is still good. It is used by
// one goroutine.
//
// A page is a header (id, kind, count, overflow), an element of 16 bytes for each entry, then their keys and values one behind the other in
// the order of the elements; so everything but the keys and values themselves can be told from its neighbours.
type image struct {
	file     *os.File
	size     int64
	pageSize int64
	head     head
	cache    map[uint64]*page // nil: every page is read anew
	cached   int              // bytes
	read     func(bytes int)  // told of each page that is read; nil: nobody
}

// head is what a valid meta page says: where everything is.
type head struct{ root, freelist, high, transaction uint64 }

const (
	pageHead     = 16
	elementSize  = 16
	bucketHead   = 16 // of a bucket's value: the page of its root, or 0 and then the page itself
	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	metaLength   = 64
	noFreelist   = 1<<64 - 1
	firstPage    = 2 // after the two metas
	deepest      = 64
	largestPage  = 1 << 30 // more than any value that is stored
	cacheBytes   = 16 << 20
	smallestPage = 1 << 10
	largestSize  = 1 << 16 // of a page that overflows into no other
)

var order = binary.NativeEndian // as the database writes it

// newImage reads the metas. The image is never nil; without any valid meta its head is zero, and only orphans can be found.
func newImage(file *os.File) (*image, error) {
	im := &image{file: file, pageSize: int64(os.Getpagesize())}
	return im, im.refresh()
}

// refresh reads the size and the metas anew. It reports a damaged one; the other counts then.
func (im *image) refresh() error {
	info, err := im.file.Stat()
	if err != nil {
		return err
	}
	im.size = info.Size()
	first, size0, err0 := im.meta(0)
	if err0 == nil {
		im.pageSize = size0
	}
	second, _, err1 := im.meta(im.pageSize)
	for size := int64(smallestPage); err0 != nil && err1 != nil && size <= largestSize; size <<= 1 { // the first one says how large a page is
		var size1 int64
		if second, size1, err1 = im.meta(size); err1 == nil {
			im.pageSize = size1
		}
	}
	switch {
	case err0 != nil && err1 != nil:
		return fmt.Errorf("both heads of the file are damaged: %w", err0)
	case err0 != nil, err1 == nil && second.transaction > first.transaction:
		im.head = second
	default:
		im.head = first
	}
	if err := errors.Join(err0, err1); err != nil {
		return fmt.Errorf("one of the two heads of the file is damaged, what was committed last may be missing: %w", err)
	}
	return nil
}

func (im *image) meta(offset int64) (h head, pageSize int64, err error) {
	var b [pageHead + metaLength]byte
	if _, err := im.file.ReadAt(b[:], offset); err != nil {
		return h, 0, err
	}
	m := b[pageHead:]
	sum := fnv.New64a()
	sum.Write(m[:metaLength-8])
	pageSize = int64(order.Uint32(m[8:]))
	if pageSize < smallestPage || pageSize > largestSize || order.Uint32(m) != metaMagic || order.Uint32(m[4:]) != metaVersion || order.Uint64(m[metaLength-8:]) != sum.Sum64() {
		return h, 0, errors.New("no database, or its checksum is wrong")
	}
	return head{root: order.Uint64(m[16:]), freelist: order.Uint64(m[32:]), high: order.Uint64(m[40:]), transaction: order.Uint64(m[48:])}, pageSize, nil
}

// pages is how many pages there can be.
func (im *image) pages() uint64 {
	there := uint64(im.size / im.pageSize)
	if im.head.high == 0 {
		return there
	}
	return min(there, im.head.high)
}

// page is a node of a tree.
type page struct {
	id       uint64
	branch   bool
	elements []element
	overflow uint64
}

type element struct {
	key    []byte
	value  []byte // of a leaf
	bucket bool   // the value is a bucket
	child  uint64 // of a branch
	offset int64  // of the value in the file
}

// raw reads a page with what it overflows into.
func (im *image) raw(id uint64) ([]byte, error) {
	if id < firstPage || id >= im.pages() {
		return nil, fmt.Errorf("page %d is outside of the file, which has %d", id, im.pages())
	}
	var header [pageHead]byte
	if _, err := im.file.ReadAt(header[:], int64(id)*im.pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	overflow := uint64(order.Uint32(header[12:]))
	if got := order.Uint64(header[:]); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	if overflow >= im.pages()-id || int64(overflow) > largestPage/im.pageSize {
		return nil, fmt.Errorf("page %d says that it has %d more, which are not there", id, overflow)
	}
	data := make([]byte, int64(overflow+1)*im.pageSize)
	if _, err := im.file.ReadAt(data, int64(id)*im.pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if im.read != nil {
		im.read(len(data))
	}
	return data, nil
}

// node reads a page of a tree. With an error it is nil, or has what can be told of it.
func (im *image) node(id uint64) (*page, error) {
	if p := im.cache[id]; p != nil {
		return p, nil
	}
	data, err := im.raw(id)
	if err != nil {
		return nil, err
	}
	p, err := parsePage(data, int64(id)*im.pageSize)
	if err != nil {
		return p, fmt.Errorf("page %d: %w", id, err)
	}
	if im.cache != nil {
		if im.cached += len(data); im.cached > cacheBytes {
			clear(im.cache)
			im.cached = len(data)
		}
		im.cache[id] = p
	}
	return p, nil
}

// parsePage takes a page apart. With an error the page is nil, or has the elements that can be told.
func parsePage(data []byte, offset int64) (*page, error) {
	if len(data) < pageHead {
		return nil, errors.New("it is cut off")
	}
	kind, count := order.Uint16(data[8:]), int(order.Uint16(data[10:]))
	if kind != branchPage && kind != leafPage {
		return nil, fmt.Errorf("it is no node of a tree but of kind %#x", kind)
	}
	p := &page{id: order.Uint64(data), branch: kind == branchPage, overflow: uint64(order.Uint32(data[12:]))}
	var wrong error
	fault := func(format string, args ...any) {
		if wrong == nil {
			wrong = fmt.Errorf(format, args...)
		}
	}
	place := func(i int) (pos, length int64) {
		e := data[pageHead+i*elementSize:]
		if p.branch {
			return int64(order.Uint32(e)), int64(order.Uint32(e[4:]))
		}
		return int64(order.Uint32(e[4:])), int64(order.Uint32(e[8:])) + int64(order.Uint32(e[12:]))
	}
	if len(data) >= pageHead+elementSize {
		// The first key stands behind the elements: it tells their number when the header does not.
		if pos, _ := place(0); pos != int64(count)*elementSize || pageHead+count*elementSize > len(data) {
			fault("its number of entries, %d, is not what the first entry says", count)
			if told := int(pos / elementSize); pos%elementSize == 0 && told <= 1<<16 && pageHead+told*elementSize <= len(data) {
				count = max(count, told)
			}
		}
	}
	count = min(count, (len(data)-pageHead)/elementSize)
	next := int64(pageHead + count*elementSize)
	for i := range count {
		at := int64(pageHead + i*elementSize)
		pos, length := place(i)
		start, end := at+pos, at+pos+length
		if start != next {
			fault("entry %d is not behind the one before it", i)
		}
		next = end
		if start < at+elementSize || end > int64(len(data)) {
			fault("entry %d is outside of the page", i)
			continue
		}
		e := element{key: data[start:end:end], offset: offset + start}
		if p.branch {
			e.child = order.Uint64(data[at+8:])
		} else {
			keyLength := int64(order.Uint32(data[at+8:]))
			e.key, e.value = data[start:start+keyLength:start+keyLength], data[start+keyLength:end:end]
			e.bucket, e.offset = order.Uint32(data[at:])&bucketFlag != 0, offset+start+keyLength
			if order.Uint32(data[at:])&^bucketFlag != 0 {
				fault("entry %d is of an unknown kind", i)
			}
		}
		if n := len(p.elements); len(e.key) == 0 || n > 0 && bytes.Compare(p.elements[n-1].key, e.key) >= 0 {
			fault("the key of entry %d is out of order", i)
		}
		p.elements = append(p.elements, e)
	}
	if p.branch && len(p.elements) == 0 {
		fault("it leads nowhere")
	}
	return p, wrong
}

// tree is a bucket: a root, or a page in its own row.
type tree struct {
	root   uint64
	inline *page
}

// treeOf reads a bucket's row. With an error the tree has what can be told of it.
func treeOf(e element) (tree, error) {
	if len(e.value) < bucketHead {
		return tree{}, errors.New("it is cut off")
	}
	if root := order.Uint64(e.value); root != 0 {
		return tree{root: root}, nil
	}
	p, err := parsePage(e.value[bucketHead:], e.offset+bucketHead)
	return tree{inline: p}, err
}

// visit is what a walk calls.
type visit struct {
	row   func(bucket []byte, e element) error // each row of a bucket
	fault func(bucket []byte, offset int64, err error)
	seen  []uint64 // a bit for each page that was met
	hurt  bool     // rows may be out of the walk's reach
}

func (v *visit) mark(id uint64) (again bool) {
	again = v.met(id)
	v.seen[id/64] |= 1 << (id % 64)
	return again
}

func (v *visit) met(id uint64) bool { return v.seen[id/64]&(1<<(id%64)) != 0 }

// walk visits every row that can be reached and every page that says where rows are. The error is that of row.
func (im *image) walk(v *visit) error {
	v.seen = make([]uint64, im.pages()/64+1)
	fault := v.fault
	v.fault = func(bucket []byte, offset int64, err error) {
		v.hurt = true
		fault(bucket, offset, err)
	}
	if im.head.root == 0 {
		v.hurt = true
		return nil
	}
	if int64(im.head.high)*im.pageSize > im.size {
		v.fault(nil, im.size, fmt.Errorf("%d bytes are missing at its end", int64(im.head.high)*im.pageSize-im.size))
	}
	return im.walkTree(v, nil, im.head.root, nil, nil, 0)
}

// walkTree visits what is below a page. Its keys are from low on and below high; nil is no bound.
func (im *image) walkTree(v *visit, bucket []byte, id uint64, low, high []byte, depth int) error {
	offset := int64(id) * im.pageSize
	if id < im.pages() && v.met(id) || depth > deepest {
		v.fault(bucket, offset, fmt.Errorf("page %d belongs to several places", id))
		return nil
	}
	p, err := im.node(id)
	if err != nil {
		v.fault(bucket, offset, err)
	}
	if p == nil {
		return nil
	}
	for i := range p.overflow + 1 {
		if v.mark(id + i) {
			v.fault(bucket, offset, fmt.Errorf("page %d belongs to several places", id+i))
		}
	}
	if n := len(p.elements); n > 0 && (low != nil && bytes.Compare(p.elements[0].key, low) < 0 || high != nil && bytes.Compare(p.elements[n-1].key, high) >= 0) {
		v.fault(bucket, offset, fmt.Errorf("page %d has keys that belong elsewhere", id))
	}
	if !p.branch {
		return im.walkLeaf(v, bucket, p)
	}
	for i, e := range p.elements {
		end := high
		if i+1 < len(p.elements) {
			end = p.elements[i+1].key
		}
		if err := im.walkTree(v, bucket, e.child, e.key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (im *image) walkLeaf(v *visit, bucket []byte, p *page) error {
	for _, e := range p.elements {
		if e.bucket != (bucket == nil) {
			v.fault(bucket, e.offset, fmt.Errorf("the kind of the row %x is damaged", e.key))
			continue
		}
		if bucket != nil {
			if err := v.row(bucket, e); err != nil {
				return err
			}
			continue
		}
		t, err := treeOf(e)
		if err != nil {
			v.fault(e.key, e.offset, err)
		}
		if t.root != 0 {
			err = im.walkTree(v, e.key, t.root, nil, nil, 0)
		} else if err = nil; t.inline != nil {
			err = im.walkLeaf(v, e.key, t.inline)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// free returns the pages that the file says are free.
func (im *image) free() ([]uint64, error) {
	if im.head.freelist == noFreelist {
		return nil, errors.New("the list of free pages was not written")
	}
	data, err := im.raw(im.head.freelist)
	if err != nil {
		return nil, err
	}
	count, at := uint64(order.Uint16(data[10:])), uint64(pageHead)
	if order.Uint16(data[8:]) != freelistPage {
		return nil, fmt.Errorf("page %d is not the list of free pages", im.head.freelist)
	}
	if count == 0xffff {
		count, at = order.Uint64(data[at:]), at+8
	}
	if count > (uint64(len(data))-at)/8 {
		return nil, fmt.Errorf("the list of free pages, page %d, is damaged: it has no room for %d", im.head.freelist, count)
	}
	ids := make([]uint64, count)
	for i := range ids {
		ids[i] = order.Uint64(data[at+8*uint64(i):])
		if ids[i] < firstPage || ids[i] >= im.head.high || i > 0 && ids[i] <= ids[i-1] {
			return nil, fmt.Errorf("the list of free pages, page %d, is damaged: page %d is in it", im.head.freelist, ids[i])
		}
	}
	return ids, nil
}

// checkFree compares the pages that a walk has met with those that are said to be free.
func (im *image) checkFree(v *visit) {
	free, err := im.free()
	offset := int64(im.head.freelist) * im.pageSize
	if err != nil {
		v.fault(nil, max(offset, 0), err)
		return
	}
	for _, id := range free {
		if id < im.pages() && v.mark(id) {
			v.fault(nil, offset, fmt.Errorf("page %d is in use and in the list of free pages", id))
		}
	}
	if data, err := im.raw(im.head.freelist); err == nil {
		for i := range uint64(len(data)) / uint64(im.pageSize) {
			v.mark(im.head.freelist + i)
		}
	}
	for id := uint64(firstPage); id < im.pages() && !v.hurt; id++ {
		if !v.met(id) {
			v.fault(nil, int64(id)*im.pageSize, fmt.Errorf("page %d is neither in use nor free", id))
		}
	}
}

// orphans visits the entries of all leaves that neither the walk nor the list of free pages has met. Their bucket is not known.
func (im *image) orphans(v *visit, entry func(e element) error) error {
	for id := uint64(firstPage); id < im.pages(); id++ {
		if v.met(id) {
			continue
		}
		p, _ := im.node(id) // what can be told of it
		if p == nil || p.branch {
			continue
		}
		for _, e := range p.elements {
			if e.bucket {
				if t, _ := treeOf(e); t.inline != nil {
					for _, e := range t.inline.elements {
						if err := entry(e); err != nil {
							return err
						}
					}
				}
				continue
			}
			if err := entry(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// get looks a row up. The value is nil without one, or when damage is in the way.
func (im *image) get(bucket, key []byte) []byte {
	root := im.find(tree{root: im.head.root}, bucket)
	if root == nil || !root.bucket {
		return nil
	}
	t, err := treeOf(*root)
	if err != nil {
		return nil
	}
	e := im.find(t, key)
	if e == nil || e.bucket {
		return nil
	}
	return e.value
}

func (im *image) find(t tree, key []byte) *element {
	p := t.inline
	for depth, id := 0, t.root; depth < deepest; depth++ {
		if p == nil {
			if p, _ = im.node(id); p == nil {
				return nil
			}
		}
		i := sort.Search(len(p.elements), func(i int) bool { return bytes.Compare(p.elements[i].key, key) > 0 }) - 1
		if !p.branch {
			if i < 0 || !bytes.Equal(p.elements[i].key, key) {
				return nil
			}
			return &p.elements[i]
		}
		if len(p.elements) == 0 {
			return nil
		}
		id, p = p.elements[max(i, 0)].child, nil
	}
	return nil
}
