package page

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// looksNative gives what an application can tell of the functions that the
// instrumentation wraps.
const looksNative = `(async () => {
const wrong = [], ok = (what, yes) => { if (!yes) wrong.push(what) };
const throws = (f, type = TypeError) => { try { f() } catch (err) { return err instanceof type } return false };
const native = f => /^function [\w ]*\(\) \{ \[native code\] \}$/.test(Function.prototype.toString.call(f)) && String(f) === f.toString();
for (const [owner, name, length, enumerable] of [[EventTarget.prototype, 'addEventListener', 2, true], [EventTarget.prototype, 'removeEventListener', 2, true],
  [window, 'setInterval', 1, true], [window, 'clearInterval', 0, true], [window, 'setTimeout', 1, true], [window, 'clearTimeout', 0, true],
  [IDBFactory.prototype, 'open', 1, true], [Worker.prototype, 'terminate', 0, true],
  [window, 'WebSocket', 1, false], [window, 'EventSource', 1, false], [window, 'Worker', 1, false]]) {
  const d = Object.getOwnPropertyDescriptor(owner, name);
  ok(name + ' descriptor', d.writable && d.configurable && d.enumerable === enumerable);
  ok(name + ' text', native(d.value));
  ok(name + ' name and length', d.value.name === name && d.value.length === length);
  ok(name + ' prototype', Object.hasOwn(d.value, 'prototype') === !enumerable);
}
const cookie = Object.getOwnPropertyDescriptor(Document.prototype, 'cookie');
ok('cookie', cookie.set.name === 'set cookie' && cookie.set.length === 1 && native(cookie.set));
ok('few arguments', throws(() => addEventListener('x')) && throws(() => removeEventListener()));
ok('another this', throws(() => EventTarget.prototype.addEventListener.call({}, 'x', () => {})));
ok('a listener that is none', throws(() => addEventListener('x', 1)));
ok('null', addEventListener('x', null) === undefined && removeEventListener('x', null) === undefined);
ok('not new', throws(() => new addEventListener('x', () => {})));
const heard = [], fire = t => { heard.length = 0; t.dispatchEvent(new Event('x')); return heard.join() };
const object = { handleEvent(ev) { heard.push(this === object && ev.type) } };
addEventListener('x', object); ok('handleEvent', fire(window) === 'x');
removeEventListener('x', object, true); ok('another capture', fire(window) === 'x');
removeEventListener('x', object, { capture: false }); ok('removed', fire(window) === '');
const own = function () { heard.push(this === document.body) };
document.body.addEventListener('x', own); document.body.addEventListener('x', own); ok('this, and once for two', fire(document.body) === 'true');
document.body.removeEventListener('x', own);
addEventListener('x', () => heard.push(1), { once: true }); ok('once', fire(window) === '1' && fire(window) === '');
const c = new AbortController(); document.addEventListener('x', () => heard.push(1), { signal: c.signal });
ok('signal', fire(document) === '1'); c.abort(); ok('aborted', fire(document) === '');
const plain = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (...args) { heard.push('patched'); return plain.apply(this, args) };
addEventListener('x', object); ok('patched over', heard.includes('patched') && fire(window) === 'x'); removeEventListener('x', object);
EventTarget.prototype.addEventListener = plain;
ok('arguments', await new Promise(done => setTimeout((...all) => done(all.join() === '1,2'), 0, 1, 2)));
ok('a script as text', await new Promise(done => { window.told = done; setTimeout('told(true)', 0) }));
ok('interval', await new Promise(done => { const i = setInterval(() => { clearTimeout(i); done(true) }) }));
ok('no arguments', throws(() => setTimeout()) && clearTimeout() === undefined);
for (const f of [WebSocket, EventSource, Worker]) {
  ok(f.name + ' without new', throws(() => f('/stream')));
  ok(f.name + ' without arguments', throws(() => new f()));
  ok(f.name + ' constructor', f.prototype.constructor === f && !Object.keys(f.prototype).includes('constructor'));
}
ok('constants', WebSocket.OPEN === 1 && EventSource.CLOSED === 2);
ok('bad URL', throws(() => new WebSocket('http://[', 'a'), DOMException));
class Mine extends EventSource {}
const s = new Mine('/stream'), e = new EventSource('/stream');
ok('subclass', s instanceof Mine && s instanceof EventSource && s.constructor === Mine && e.constructor === EventSource);
s.close(); e.close();
return wrong;
})()`

func TestInstrumentationLooksNative(t *testing.T) {
	p := open(t, newHost(t, nil), appShell)
	var got evaluated[[]string]
	if err := p.evaluate(t.Context(), looksNative, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{}, got.Result.Value); d != "" || got.ExceptionDetails != nil {
		t.Error(d, got.ExceptionDetails)
	}
}
