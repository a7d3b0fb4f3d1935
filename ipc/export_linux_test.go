package ipc

import "unsafe"

// Memory returns all of the memory of an object.
func (o *object) Memory() []byte {
	body := o.h.Body
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(body)), -o.h.Beyond()+int64(len(body)))), o.h.Beyond())
}
