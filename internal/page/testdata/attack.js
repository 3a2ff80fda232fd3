// An application that tries to reach a canary on this machine in every way that
// a page has. PORT is the canary's; what it is asked for names the way.
const app = document.getElementById('app');
const canary = (way, host = '127.0.0.1', scheme = 'http') => `${scheme}://${host}:${PORT}/${way}`;

// wait ends at one of the element's events, or after a while.
const soon = ms => new Promise(done => setTimeout(done, ms));
const wait = (thing, ...events) => Promise.race([
  soon(1000), new Promise(done => events.forEach(e => thing.addEventListener(e, done, { once: true })))]);
const make = (tag, attributes, parent = document.body) => {
  const element = Object.assign(document.createElement(tag), attributes);
  const done = wait(element, 'load', 'error');
  parent.append(element);
  return done;
};
const link = (rel, href, more) => make('link', { rel, href, ...more }, document.head);
const quietly = promise => Promise.resolve(promise).catch(() => 0);

const rtc = async () => {
  const peer = new RTCPeerConnection({ iceServers: [
    { urls: `stun:127.0.0.1:${PORT}` },
    { urls: [`turn:127.0.0.1:${PORT}?transport=udp`, `turn:127.0.0.1:${PORT}?transport=tcp`], username: 'u', credential: 'c' }] });
  peer.createDataChannel('x');
  await peer.setLocalDescription(await peer.createOffer());
  await peer.addIceCandidate({ candidate: `candidate:1 1 udp 2122260223 127.0.0.1 ${PORT} typ host`, sdpMid: '0' }).catch(() => 0);
  await soon(1000);
  peer.close();
};

const ways = {
  fetch: () => fetch(canary('fetch'), { mode: 'no-cors' }),
  xhr: () => { const x = new XMLHttpRequest(); x.open('GET', canary('xhr')); const done = wait(x, 'loadend'); x.send(); return done },
  beacon: () => { navigator.sendBeacon(canary('beacon'), 'x'); return soon(300) },
  image: () => make('img', { src: canary('image') }),
  svg: () => make('img', { src: canary('svg') + '#x' }),
  script: () => make('script', { src: canary('script') }),
  module: () => make('script', { type: 'module', src: canary('module') }),
  import: () => import(canary('import')),
  style: () => link('stylesheet', canary('style')),
  css: () => { app.style.backgroundImage = `url(${canary('css')})`; return soon(300) },
  frame: () => make('iframe', { src: canary('frame') }),
  srcdoc: () => make('iframe', { srcdoc: `<img src="${canary('srcdoc')}">` }),
  object: () => make('object', { data: canary('object') }),
  video: () => { const v = document.createElement('video'); const done = wait(v, 'error', 'loadeddata'); v.src = canary('video'); v.load(); document.body.append(v); return done },
  form: () => {
    const done = make('iframe', { name: 'target' });
    const form = Object.assign(document.createElement('form'), { action: canary('form'), method: 'post', target: 'target' });
    document.body.append(form);
    form.submit();
    return done.then(() => soon(300));
  },
  eventsource: () => { const s = new EventSource(canary('eventsource')); return wait(s, 'error', 'open').then(() => s.close()) },
  websocket: () => { const s = new WebSocket(canary('websocket', '127.0.0.1', 'ws')); return wait(s, 'error', 'open') },
  secure: () => fetch(canary('secure', '127.0.0.1', 'https'), { mode: 'no-cors' }),
  secureSocket: () => wait(new WebSocket(canary('wss', '127.0.0.1', 'wss')), 'error', 'open'),
  prefetch: () => link('prefetch', canary('prefetch')),
  preload: () => link('preload', canary('preload'), { as: 'image' }),
  preconnect: () => { link('preconnect', canary('')); link('dns-prefetch', canary('')); return soon(300) },
  favicon: () => { link('icon', canary('favicon')); return soon(300) },
  speculation: () => { make('script', { type: 'speculationrules', textContent: JSON.stringify({ prefetch: [{ urls: [canary('speculation')], eagerness: 'immediate' }] }) }); return soon(300) },
  refresh: () => make('iframe', { src: '/refresh' }).then(() => soon(500)),
  redirectFetch: () => fetch('/redirect/fetch', { mode: 'no-cors' }),
  redirectImage: () => make('img', { src: '/redirect/image' }),
  redirectFrame: () => make('iframe', { src: '/redirect/frame' }),
  worker: () => wait(new Worker('/worker.js?worker'), 'message', 'error'),
  service: () => navigator.serviceWorker.register('/worker.js?service').then(() => soon(500)),
  rtc,
  transport: () => { const t = new WebTransport(canary('transport', '127.0.0.1', 'https')); return Promise.race([t.ready, soon(1000)]) },
  popup: () => { const a = Object.assign(document.createElement('a'), { href: canary('popup'), target: '_blank' }); document.body.append(a); a.click(); return soon(300) },
  ping: () => { const a = Object.assign(document.createElement('a'), { href: '#x', ping: canary('ping') }); document.body.append(a); a.click(); return soon(300) },
};

// How a page can spell this machine.
const spellings = [
  'localhost', 'LOCALHOST', 'localhost.', 'sub.localhost', '127.0.0.1', '127.0.0.1.', '127.1', '127.0.1', '2130706433', '0x7f000001', '0x7f.1', '0177.0.0.1', '017700000001',
  '127.0.0.2', '0', '0.0.0.0', '[::]', '[::1]', '[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::127.0.0.1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]',
  'user@127.0.0.1', 'user:password@127.0.0.1', '①②⑦.⓪.⓪.①', '127。0。0。1', '%31%32%37.0.0.1',
];

const ready = text => { app.textContent = text; window.prerenderReady = true };

const routes = {
  '/ways': async () => {
    window.prerenderReady = false;
    await Promise.all(Object.values(ways).map(way => { try { return quietly(way()) } catch { return 0 } }));
    ready('tried');
  },
  '/spellings': async () => {
    window.prerenderReady = false;
    await Promise.all(spellings.flatMap((host, i) => [
      quietly(Promise.race([soon(1000), fetch(canary('spelling' + i, host), { mode: 'no-cors' })])),
      make('img', { src: canary('image' + i, host) }),
    ]));
    ready('tried');
  },
  '/navigate': () => { window.prerenderReady = false; location.href = canary('navigate') },
  '/meta': () => { window.prerenderReady = false; document.head.insertAdjacentHTML('beforeend', `<meta http-equiv="refresh" content="0;url=${canary('meta')}">`) },
  '/realm': async () => {
    window.prerenderReady = false;
    const data = await (await fetch('/data')).text();
    const streamed = await new Promise(done => { new EventSource('/stream').onmessage = e => done(e.data) });
    const socket = new WebSocket(location.origin.replace('http', 'ws') + '/socket');
    const echoed = await new Promise((done, fail) => { socket.onopen = () => socket.send('echoed'); socket.onmessage = e => done(e.data); socket.onerror = fail });
    ready([data, streamed, echoed].join(' '));
  },
  '/permitted': async () => {
    window.prerenderReady = false;
    ready(await (await fetch(canary('permitted'))).text());
  },
  '/counted': async () => {
    window.prerenderReady = false;
    await Promise.all(['http', 'https'].map(scheme => quietly(fetch(scheme + '://www.google-analytics.com/g/collect', { mode: 'no-cors' }))));
    ready('not counted');
  },
};
const route = routes[location.pathname];
if (route) route(); else app.textContent = 'standby';
