package cli

import "testing"

func TestTextReadsLikeAReader(t *testing.T) {
	for body, want := range map[string]string{
		`<h1>A <b>bold</b>, <i>short</i>title</h1><p>one
			two</p>three<div>four<div>five</div></div>`: "A bold, shorttitle\none two\nthree\nfour\nfive\n",
		`a<br>b<br><br>c`:                                            "a\nb\nc\n",
		`<b>x</b><b>y</b> <b>z</b>`:                                  "xy z\n",
		`a &amp; b&nbsp;c &lt;p&gt;`:                                 "a & b\u00a0c <p>\n",
		`<ul><li>one</li><li><a>two</a></li></ul>`:                   "one\ntwo\n",
		`<table><tr><th>a</th><th>b</th></tr><tr><td>1<td>2</table>`: "a b\n1 2\n",
		`<p>seen</p><p hidden>no</p><p aria-hidden=true>no</p><p style="color:red; DISPLAY : none">no</p><span style="visibility:hidden">no</span><dialog>no</dialog><dialog open>yes</dialog>`: "seen\nyes\n",
		`<script>no</script><style>no</style><template>no</template><noscript><p>no</p></noscript><iframe>no</iframe><!--no-->yes`:                                                              "yes\n",
		"<pre>a\n  b &lt;\n</pre>c":                             "a\n  b <\nc\n",
		`<svg><text>in a drawing</text><style>no</style></svg>`: "in a drawing\n",
		`<x-a><template shadowrootmode=open><h2><slot name=t>none</slot></h2><p>own <slot></slot>!</p><slot name=u>fallback</slot></template><b slot=t>title</b>light<i slot=none>no</i></x-a>`: "title\nown light!\nfallback\n",
		`<x-a><template shadowrootmode=open><x-b><template shadowrootmode=open>[<slot></slot>]</template><slot></slot></x-b></template>deep</x-a>`:                                              "[deep]\n",
		"":                       "",
		"<p> \n </p>":            "",
		"<p>never <b>closed<p>x": "never closed\nx\n",
	} {
		if got := textOf(body); got != want {
			t.Errorf("%s\n reads %q\n want  %q", body, got, want)
		}
	}
}
