package index

// Tries is what is kept of a page's renders until one of them has done.
type Tries struct {
	Renders int `json:"renders"`        // in vain, the lost ones too
	Lost    int `json:"lost,omitempty"` // of these: their worker was gone before it knew what came of them
	// By is the worker whose render has begun and not ended, "" if there is none.
	By string `json:"by,omitempty"`
}

// Begin is the tries as worker begins the next. A render that another one left
// open counts as failed: that worker was lost in it, and the page may be why.
// One that it left open itself was not lost, only its end was not stored.
func (t Tries) Begin(worker string) Tries {
	if t.By != "" && t.By != worker {
		t.Renders++
		t.Lost++
	}
	t.By = worker
	return t
}

// End is the tries once worker knows what came of its render.
func (t Tries) End(worker string, failed bool) Tries {
	if t.By == worker {
		t.By = ""
	}
	if failed {
		t.Renders++
	}
	return t
}

// Alone reports whether nothing may be rendered beside the page: a worker was
// lost with it, and if it was the cause, what is beside it would be counted too.
func (t Tries) Alone() bool { return t.Lost > 0 }

// Over reports whether the page may not be rendered again.
func (t Tries) Over() bool { return t.Renders >= MaxRenders }
