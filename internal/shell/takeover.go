package shell

// takeover is the script that stands right after what was prerendered. It takes
// itself out of the document, then waits until the application has put its own
// content beside ours: more visible children than the shell has by itself. Then
// ours goes, with the marked style elements, and the scroll position is kept,
// so a visitor never sees both. In a mount element (own < 0) most frameworks
// replace our nodes; those that append are told by our nodes being untouched,
// and those that adopt our nodes keep them. Linked style sheets stay: loaders
// (Vite's among them) do not add one that they find, so taking it away would
// leave the application without.
//
// With deep, components of ours have shadow roots that the parser made. A class
// that is defined before ours goes may write beside what is in such a root, if
// it sees one; so it sees none until it attaches its own, which empties it.
const takeover = `(function(own,deep){` +
	`var s=document.currentScript,p=s.parentNode,m=own<0,o,t=false,` +
	`ours=m?[].slice.call(p.childNodes):[s.previousSibling];` +
	`ours=ours.filter(function(x){return x!==s});s.remove();if(m)own=0;` +
	`function h(n){var r=n.shadowRoot;if(r){h(r);` +
	`Object.defineProperty(n,"shadowRoot",{configurable:true,value:null});` +
	`n.attachShadow=function(i){delete n.shadowRoot;delete n.attachShadow;return n.attachShadow(i)}}` +
	`if(n.children)[].forEach.call(n.children,h)}` +
	`if(deep)ours.forEach(h);` +
	`function v(x){return x.nodeType===1?!/^(SCRIPT|STYLE|LINK|TEMPLATE|NOSCRIPT|META|BASE|TITLE)$/i.test(x.nodeName):x.nodeType===3&&/\S/.test(x.data)}` +
	`function f(x){return ours.indexOf(x)<0&&!(x.hasAttribute&&x.hasAttribute("data-rewarm-prerendered"))&&v(x)}` +
	`o=new MutationObserver(function(r){` +
	`var added=[];` +
	`r.forEach(function(e){` +
	`if(e.target!==p){t=true;return}` +
	`[].forEach.call(e.addedNodes,function(x){added.push(x)});` +
	`[].forEach.call(e.removedNodes,function(x){if(f(x)&&added.indexOf(x)<0&&own>0)own--})});` +
	`var left=ours.filter(function(x){return x.parentNode===p});` +
	`if(left.length&&[].filter.call(p.childNodes,f).length<=own)return;` +
	`if(m&&(t||left.length<ours.length))left=[];` +
	`o.disconnect();var x=scrollX,y=scrollY;` +
	`left.forEach(function(n){n.remove()});` +
	`[].forEach.call(document.querySelectorAll("style[data-rewarm-prerendered]"),function(n){n.remove()});` +
	`if(x||y){scrollTo(x,y);requestAnimationFrame(function(){scrollTo(x,y)})}});` +
	`o.observe(p,m?{childList:true,subtree:true,attributes:true,characterData:true}:{childList:true})})`
