'use strict';
// All data from the program is set as text (textContent), never as markup.

const refreshEvery = 5000; // ms between two refreshes
const fetchTimeout = 8000; // ms

const byID = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

function svgElement(tag, attributes) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

// setText does not touch unchanged text, because a screen reader would read it again.
function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// changed reports whether a part differs from the shown one. An unchanged part keeps its nodes, and
// with them the scroll position, the focus and the selection.
const shown = new Map();
function changed(part, data) {
  const text = JSON.stringify(data);
  if (shown.get(part) === text) return false;
  shown.set(part, text);
  return true;
}

const clock = (time) => new Date(time).toLocaleTimeString();

function showState(v) {
  const n = v.problems.length;
  const state = byID('state');
  let text = 'Ready', level = 'good';
  if (!v.ready) [text, level] = [n === 1 ? 'Not ready: 1 problem' : `Not ready: ${n} problems`, 'bad'];
  else if (v.warnings.length) [text, level] = [v.warnings.length === 1 ? 'Ready, 1 warning' : `Ready, ${v.warnings.length} warnings`, 'warn'];
  setText(state, text);
  state.className = level;
  setText(byID('program'), v.program);
  setText(byID('build'), `${v.version} on ${v.host}, since ${new Date(v.started).toLocaleString()}`);
  document.title = `${v.ready ? '' : '⚠ '}${v.program} on ${v.host}`;
}

function showProblems(id, problems) {
  if (!changed(id, problems)) return;
  byID(id).hidden = problems.length === 0;
  byID(id).querySelector('ul').replaceChildren(...problems.map((p) => {
    const text = element('p', { class: 'problem' });
    text.textContent = `${p.component}: ${p.problem}`;
    const item = element('li', {}, text);
    const line = (text, name) => {
      const e = element('p', { class: name });
      e.textContent = text;
      item.append(e);
    };
    if (p.advice) line(p.advice, 'advice');
    let since = `since ${new Date(p.since).toLocaleString()}`;
    if (p.lanes && p.lanes.length) since += `, lanes ${p.lanes.join(', ')}`;
    if (p.subject) since += `, subject ${p.subject}`;
    line(since, 'quiet');
    return item;
  }));
}

function showFigures(figures) {
  if (!changed('figures', figures)) return;
  byID('figures').replaceChildren(...figures.map((f) => {
    const name = element('dt'), value = element('dd');
    name.textContent = f.name;
    value.textContent = f.value;
    return element('div', {}, name, value);
  }));
}

const colour = (i) => 's' + Math.min(i, 7);

// line draws a series as a path with one unit of width per point, the newest at the right.
function line(series, i, points, highest) {
  const values = series.values, from = points - values.length;
  let d = '', pen = 'M';
  values.forEach((v, at) => {
    if (v === null) { pen = 'M'; return; }
    d += `${pen}${from + at} ${(98 - 92 * v / highest).toFixed(1)}`;
    pen = 'L';
  });
  return svgElement('path', { class: colour(i), d: d || 'M0 98' });
}

function chartFigure(chart, n) {
  const highest = Math.max(...chart.series.flatMap((s) => s.values.map((v) => v ?? 0)), 1e-9);
  const svg = svgElement('svg', { viewBox: `0 0 ${chart.points} 100`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  chart.series.forEach((s, i) => svg.append(line(s, i, chart.points, highest)));
  const title = element('h3', { id: `chart-${n}` });
  title.textContent = chart.title + (chart.unit ? ', ' + chart.unit : '');
  const top = element('span', { class: 'top', 'aria-hidden': 'true' });
  top.textContent = highest > 1e-6 ? `${highest < 10 ? highest.toFixed(1) : Math.round(highest).toLocaleString('en')}` : '';
  const axis = element('div', { class: 'axis', 'aria-hidden': 'true' }, element('span', {}, '1 h ago'), element('span', {}, 'now'));
  return element('figure', { 'aria-labelledby': `chart-${n}` }, title, element('div', { class: 'plot' }, svg, top), axis, legend(chart, n));
}

// legend is also the chart's text for screen readers.
function legend(chart, n) {
  const totals = chart.series.some((s) => s.total);
  const titles = ['', 'now', 'highest'].concat(totals ? ['total'] : []);
  const head = element('tr', {}, ...titles.map((t, i) =>
    i ? element('th', { scope: 'col', class: 'number' }, t) : element('td')));
  const rows = chart.series.map((s, i) => {
    const key = svgElement('svg', { class: 'key', viewBox: '0 0 24 8', 'aria-hidden': 'true' });
    key.append(svgElement('path', { class: colour(i), d: 'M0 4H24' }));
    const name = element('th', { scope: 'row' }, key, s.name);
    const cells = [s.now, s.highest].concat(totals ? [s.total || ''] : []);
    return element('tr', {}, name, ...cells.map((c) => element('td', { class: 'number' }, c)));
  });
  return element('table', { class: 'legend', 'aria-labelledby': `chart-${n}` },
    element('thead', {}, head), element('tbody', {}, ...rows));
}

function showCharts(charts) {
  if (!changed('charts', charts)) return;
  byID('hour').hidden = charts.length === 0;
  byID('charts').replaceChildren(...charts.map(chartFigure));
}

function cell(c, column, first) {
  const e = element(first ? 'th' : 'td', first ? { scope: 'row' } : {});
  if (c.level) e.classList.add(c.level);
  if (column.numeric) e.classList.add('number');
  if (column.long) e.classList.add('long');
  if (c.fill !== undefined) {
    const meter = element('meter', { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0, value: c.fill, 'aria-hidden': 'true' });
    e.append(meter);
  }
  if (column.command && c.text) {
    const code = element('code');
    code.textContent = c.text;
    e.append(code);
  } else {
    e.append(c.text);
  }
  return e;
}

function tableSection(t, n) {
  const id = `table-${n}`;
  const title = element('h2', { id });
  title.textContent = t.title;
  const section = element('section', { 'aria-labelledby': id }, title);
  if (t.note) {
    const note = element('p', { class: 'warn' });
    note.textContent = t.note;
    section.append(note);
  }
  const scroll = element('div', { class: 'scroll' });
  section.append(scroll);
  if (!t.rows || t.rows.length === 0) {
    const empty = element('p', { class: 'empty' });
    empty.textContent = t.empty;
    scroll.append(empty);
    return section;
  }
  // The tabindex allows keyboard users to scroll the table with the arrow keys.
  for (const [name, value] of Object.entries({ tabindex: 0, role: 'group', 'aria-labelledby': id })) scroll.setAttribute(name, value);
  const head = element('tr', {}, ...t.columns.map((c) => {
    const th = element('th', { scope: 'col' }, c.title);
    if (c.numeric) th.classList.add('number');
    return th;
  }));
  const rows = t.rows.map((r) => element('tr', {}, ...r.map((c, i) => cell(c, t.columns[i], i === 0))));
  scroll.append(element('table', { 'aria-labelledby': id }, element('thead', {}, head), element('tbody', {}, ...rows)));
  return section;
}

function showTables(tables) {
  const box = byID('tables');
  while (box.children.length > tables.length) box.lastChild.remove();
  tables.forEach((t, n) => {
    if (!changed(`table-${n}`, t) && box.children[n]) return;
    const old = box.children[n], section = tableSection(t, n);
    if (!old) { box.append(section); return; }
    const left = old.querySelector('.scroll').scrollLeft, focused = old.contains(document.activeElement);
    old.replaceWith(section);
    const scroll = section.querySelector('.scroll');
    scroll.scrollLeft = left;
    if (focused) scroll.focus({ preventScroll: true });
  });
}

let latest = null; // time of the last response

async function refresh() {
  try {
    const response = await fetch('page/view', { cache: 'no-store', signal: AbortSignal.timeout(fetchTimeout) });
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    const v = await response.json();
    showState(v);
    showProblems('problems', v.problems);
    showProblems('warnings', v.warnings);
    showFigures(v.figures);
    showCharts(v.charts);
    showTables(v.tables);
    latest = Date.now();
    byID('lost').hidden = true;
  } catch (error) {
    const name = byID('program').textContent === '…' ? 'the program' : byID('program').textContent;
    const state = byID('state');
    setText(state, 'No answer');
    state.className = 'bad';
    setText(byID('lost'), latest === null
      ? `${name} does not answer. Retrying.`
      : `${name} has not answered since ${clock(latest)}. The page shows the state at that time. Retrying.`);
    byID('lost').hidden = false;
    document.title = `⚠ No answer from ${name}`;
    void error;
  }
}

let timer = 0;
async function loop() {
  clearTimeout(timer);
  await refresh();
  clearTimeout(timer);
  timer = setTimeout(loop, document.hidden ? 6 * refreshEvery : refreshEvery);
}
document.addEventListener('visibilitychange', () => { if (!document.hidden) loop(); });
loop();
