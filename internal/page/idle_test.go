package page

import (
	"testing"
	"time"
)

// What an application keeps is measured, wherever it keeps it.
func TestMemoryCountsWhatAnApplicationKeeps(t *testing.T) {
	h := newHost(t, nil)
	for kind, keep := range map[string]string{
		"objects": `window.kept=Array.from({length:2e6},(_,i)=>({i}));1`,
		"nodes":   `window.kept=document.createElement('div');for(let i=0;i<2e5;i++)kept.append(document.createElement('p'));1`,
		"buffers": `window.kept=new Uint8Array(64<<20).fill(1);1`,
	} {
		p := open(t, h, appShell)
		memory := func() uint64 {
			bytes, err := p.Memory(limited(t, 5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			return bytes
		}
		before := memory()
		var r evaluated[int]
		if err := p.evaluate(limited(t, testLimit), keep, &r); err != nil {
			t.Fatal(err)
		}
		if after := memory(); before == 0 || after < before+10<<20 {
			t.Errorf("%s: %d bytes before, %d after", kind, before, after)
		}
	}
}
