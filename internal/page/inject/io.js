// What we may ask the page for.
const io = {
  // begin starts an epoch: what the last route said is void from here on.
  begin(e, selector) {
    take(observer.takeRecords());
    epoch = e; sig = ''; touched = false;
    unmoved();
    oldEl = find('[data-prerender-status]');
    expect(selector);
    say('start');
  },
  // go tells the outcome of the transition, and with it the capture if the
  // application says that it is ready; else it sets about the proof that the page
  // is quiet, and tells what came of it. Asking for either would wait until the
  // page has been laid out and painted, which nobody looks at.
  go(e, path, selector, quiet, realms, limit) {
    const f = typeof window.prerenderTransitionTo === 'function' ? window.prerenderTransitionTo
      : typeof window.boxelTransitionTo === 'function' ? window.boxelTransitionTo : null;
    if (!f) return 'none';
    residue.enter();
    io.begin(e, selector);
    going = true;
    // What it cannot have now it is asked for later, and says then why not.
    const snap = () => { try { const c = capture(realms, limit, 'document'); return c.big ? undefined : c } catch { return undefined } };
    const end = (t, err) => {
      if (epoch !== e) return;
      going = false;
      take(observer.takeRecords());
      const shot = t === 'done' && limit && !want ? snap : undefined;
      if (!say(t, err && err.message || err, shot) && shot) {
        prove(quiet, is => { if (epoch === e) say(is ? 'quiet' : 'unquiet', undefined, is ? snap : undefined, true) });
      }
    };
    try { P.resolve(f.call(window, path)).then(() => end('done'), err => end('fail', err)) }
    catch (err) { end('fail', err) }
    return 'ok';
  },
  start: () => residue.start(),
  know: all => residue.know(all),
  expect(selector) { expect(selector); say('m') },
  carry(id) { carried = id },
  // capture gives a promise when quiet has to be proved; null is no proof.
  capture(quiet, realms, limit, wanted) {
    take(observer.takeRecords());
    if (!quiet) return capture(realms, limit, wanted);
    return new P((done, fail) => prove(quiet, is => {
      try { done(is ? capture(realms, limit, wanted) : { unquiet: true }) } catch (err) { fail(err) }
    }));
  },
  // command starts a command at most once: every answer but ready, error and
  // result says that it has not been started.
  command(at, name, input, limit) {
    const all = window.prerenderCommands;
    if (location.origin !== at) return { s: 'elsewhere' };
    if (!all || typeof all[name] !== 'function' || all[name] === Object.prototype[name]) return { s: 'none' };
    const threw = err => ({ s: 'error', t: String(err && err.name || 'Error').slice(0, 200),
      x: String(err && err.message || err).slice(0, 4096), k: String(err && err.stack || '').slice(0, 4096) });
    const ran = v => {
      try {
        const text = stringify(v);
        return text && text.length > limit ? { s: 'result', x: 'is over ' + limit + ' characters long' } : { s: 'ready', v: text || 'null' };
      } catch (err) { return { s: 'result', x: 'is no JSON: ' + (err && err.message) } }
    };
    try { return P.resolve(all[name](input === '' ? undefined : parse(input))).then(ran, threw) }
    catch (err) { return threw(err) }
  },
};
const own = { prerender: true };
Object.defineProperty(own, 'io', { value: Object.freeze(io) });
Object.defineProperty(window, '__rewarm', { value: own, enumerable: true });
window.__boxelRenderContext = true;
document.addEventListener('DOMContentLoaded', () => say('parsed'));
window.addEventListener('load', () => say('m'));
