package proc

// NewPage makes a page that is not shared, and returns what takes it away.
func NewPage() (*Page, func(), error) {
	p, f, err := newPage()
	if err != nil {
		return nil, nil, err
	}
	f.Close()
	return p, p.unmap, nil
}

// Excerpt returns what is kept of a text that is written in parts.
func Excerpt(parts ...string) string {
	var e excerpt
	for _, p := range parts {
		e.add([]byte(p))
	}
	return e.text()
}
