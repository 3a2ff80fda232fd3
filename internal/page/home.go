package page

import "strings"

// A page may render several realms. Its application was started in one of them,
// its home, and may have learned its base there (a router's basename), so that
// in another it is started anew.

// realmOf is the innermost of the page's realms that contains a URL, "" for
// none.
func (p *Page) realmOf(u string) (best string) {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	for _, r := range p.realms {
		if len(r) > len(best) && within(u, []string{r}) {
			best = r
		}
	}
	return best
}

// admit makes a realm that the page was not opened for one of its own: realms
// are added while pages live.
func (p *Page) admit(realm string) {
	realm = strings.TrimRight(realm, "/")
	if realm == "" || p.realmOf(realm) == realm {
		return
	}
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	p.realms = append(p.realms[:len(p.realms):len(p.realms)], realm)
}

// isHome is whether the application was started in the realm of a URL.
func (p *Page) isHome(u string) bool { return p.realmOf(u) == p.home }

// moveTo makes the realm of a URL the home of what is loaded next.
func (p *Page) moveTo(u string) {
	home := p.realmOf(u)
	if home == p.home {
		return
	}
	named := assetsOf(p.options.Shell.Bytes, home+"/_standby")
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	p.home, p.assets = home, named
}
