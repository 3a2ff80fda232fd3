package page

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	cdpage "github.com/chromedp/cdproto/page"

	"github.com/rewarm/rewarm/internal/chrome"
)

//go:embed inject/apart.js
var apartJS string

// captureApart captures a document whose page has broken what the
// instrumentation needs, in a world of its own. There the page's scripts, and so
// a module's result, cannot be seen, nor rules that replaced a sheet's text.
func (p *Page) captureApart(ctx context.Context, wanted string) (*captured, error) {
	world, err := chrome.Call(ctx, p.session, cdpage.CreateIsolatedWorld, cdpage.CreateIsolatedWorldParams{FrameID: cdp.FrameID(p.target)})
	if err != nil {
		return nil, err
	}
	expression := strings.Join([]string{"(() => {", apartJS, wrapJS, stylesJS, markupJS, captureJS,
		fmt.Sprintf("return capture(%s,%d,%s)})()", p.realmList(), captureLimit, quote(wanted))}, "\n")
	var answer evaluated[*captured]
	err = p.tab.evaluate(ctx, world.ExecutionContextID, expression, &answer)
	if e := answer.ExceptionDetails; e != nil {
		return &captured{Fault: exceptionText(e)}, err
	}
	return answer.Result.Value, err
}
