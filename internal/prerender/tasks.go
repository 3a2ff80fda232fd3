package prerender

import (
	"encoding/json"
	"net/http"

	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/page"
	"github.com/rewarm/rewarm/internal/web"
	"github.com/rewarm/rewarm/internal/wire"
)

// task is a kind of work as its route offers it: what the pages do, and how
// that is told.
type task struct {
	kind       page.Kind
	answer     string // the answer's data.type
	attributes func(page.Result, wire.ResultMeta) any
}

// tasks are the render routes. All take one way: a page is acquired, probed,
// does the task, and what came of it is judged.
func tasks() map[string]task {
	return map[string]task{
		"POST /prerender-visit":      {page.Document, wire.TypeVisitResult, visitResult},
		"POST /prerender-screenshot": {page.Screenshot, wire.TypeScreenshotResult, screenshotResult},
		"POST /prerender-module":     {page.Module, wire.TypeModuleResult, moduleResult},
		"POST /run-command":          {page.Command, wire.TypeCommandResult, commandResult},
	}
}

func visitResult(r page.Result, meta wire.ResultMeta) any {
	return wire.VisitResult{Capture: r.Capture, Meta: meta}
}

func screenshotResult(r page.Result, meta wire.ResultMeta) any {
	picture := r.Data
	if picture == nil {
		picture = []byte{} // "" and not null
	}
	return wire.ScreenshotResult{
		Status: r.Status, Base64: picture, Width: r.Width, Height: r.Height, ContentType: r.ContentType, Error: r.Error, Meta: meta,
	}
}

func moduleResult(r page.Result, meta wire.ResultMeta) any {
	return wire.ModuleResult{Status: r.Status, Result: orNull(r.JSON), Deps: wire.DepsOf(r.JSON), Error: r.Error, Meta: meta}
}

func commandResult(r page.Result, meta wire.ResultMeta) any {
	return wire.CommandResult{
		Status: r.Status, Result: orNull(r.JSON), CardResultString: wire.CardResultString(r.JSON), Error: r.Error, Meta: meta,
	}
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

// releaseBatch hears that a batch is over. No page is kept for a batch alone:
// those of its affinity go when others need the room, so there is nothing to
// let go of but what the pool lets go of anyway.
func (s *Server) releaseBatch(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadBody(w, r)
	if err != nil {
		return err
	}
	request, err := wire.ParseVisitRequest(body)
	if err != nil {
		return err
	}
	affinity, given, err := request.Affinity()
	if err != nil {
		return err
	}
	if !given {
		return fault.New(fault.Invalid, "Missing required attribute: affinityType")
	}
	s.options.Log.Info("batch released", "requestId", web.RequestID(r.Context()), "affinity", affinity.Key(), "batch", request.BatchID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
