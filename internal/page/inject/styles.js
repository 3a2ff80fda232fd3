// Style sheets whose rules are not their text: libraries write rule by rule in
// production, where an element's text stays empty or says what once was.
const rewritten = new WeakSet();
const rewrite = before(rule => rewritten.add(rule.parentStyleSheet || rule));
for (const type of [CSSStyleSheet, CSSGroupingRule, CSSStyleRule, CSSKeyframesRule]) {
  for (const name of ['insertRule', 'deleteRule', 'addRule', 'removeRule', 'appendRule']) wrap(type.prototype, name, rewrite);
}
for (const type of [CSSStyleRule, CSSKeyframeRule, CSSFontFaceRule]) wrap(type.prototype, 'style', rewrite, 'get');
wrap(CSSStyleRule.prototype, 'styleMap', rewrite, 'get');
wrap(CSSStyleRule.prototype, 'selectorText', rewrite, 'set');

const rulesOf = rules => Array.from(rules, r => r.cssText).join('\n');
// What a library wrote rule by rule is of all routes that the page was on: the
// rules that nothing here asks for are left out, but for a component's own.
const usedOf = (sheet, el) => {
  if (el.getRootNode() !== el.ownerDocument) return rulesOf(sheet.cssRules);
  const has = residue.presence();
  return rulesOf([...sheet.cssRules].filter(r => !residue.isIdleRule(r, has)));
};
// In a style element nothing but its end tag is markup; in CSS it can only be
// in a string or a comment, where the escape means the same.
const inStyle = css => css.replace(/<\/(?=style)/gi, '<\\/');
// styleText is what a style element has to say if that is not its text.
const styleText = el => {
  const sheet = el.sheet;
  if (!sheet) return;
  if (sheet.disabled) return '';
  const text = el.textContent;
  if (rewritten.has(sheet) || sheet.cssRules.length && !text.trim()) return inStyle(usedOf(sheet, el));
  if (/<\/style/i.test(text)) return inStyle(text);
};
// sheetMarkup is a constructed sheet as an element, marked as what takeover
// removes: the application brings its own.
const sheetMarkup = sheet => {
  const css = sheet.disabled ? '' : inStyle(rulesOf(sheet.cssRules)), media = quoted(sheet.media.mediaText);
  return css && `<style data-rewarm-prerendered=""${media && ` media="${media}"`}>${css}</style>`;
};
