'use strict';
// The page of a Millstream broker. It knows the broker by its public HTTP API only (docs/http.md).
//
// Sections: elements, words, API, metrics, tables, forms, views and routes, warnings, topics, one topic, messages, record,
// groups, one group, cores, start. All that comes from the broker becomes text nodes and attributes, never HTML.

const ROWS_MAX = 300;
const RECORD_ROWS_MAX = 500;
const NEWEST_COUNT = 50;
const SEARCH_HITS_MAX = 200;
const WARNINGS_SHOWN_MAX = 8;
const SHOWN_CHARS_MAX = 200_000;
const FORMATTED_CHARS_MAX = 1_000_000;
const POLL_MS = 5_000;
const METRICS_MS = 3_000;
const LAG_MS = 10_000;
const WARNINGS_MS = 15_000;
const SLOW_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

// ---- Elements

const SVG_TAGS = new Set(['svg', 'polyline', 'line', 'title']);
const PROPERTIES = new Set(['value', 'checked', 'max', 'min', 'disabled', 'hidden', 'required']);

/** Makes an element. A function is a listener; `false`, `null` and `undefined` leave an attribute or a child away. */
function el(tag, attributes = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === 'function') made.addEventListener(name, value);
    else if (PROPERTIES.has(name)) made[name] = value;
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== false && child !== null && child !== undefined));
  return made;
}

/** Sets a text, unless it is there already: a screen reader would read it again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const button = (text, click, attributes = {}) => el('button', { type: 'button', click, ...attributes }, text);
const link = (hash, text) => el('a', { href: hash }, text);
const topicHash = (name) => `#/topic/${encodeURIComponent(name)}`;
const groupHash = (name) => `#/group/${encodeURIComponent(name)}`;

// ---- Words: numbers, times and errors for people

const count = (number) => (number === null || number === undefined ? '–' : Math.round(number).toLocaleString('en'));

const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;

function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return '–';
  return perSecond >= 10 || perSecond === 0 ? count(perSecond) : perSecond.toFixed(1);
}

function bytes(size) {
  if (size === null || size === undefined) return '–';
  let [value, unit] = [size, 0];
  while (value >= 1024 && unit < 5) [value, unit] = [value / 1024, unit + 1];
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}

const byteRate = (perSecond) => (perSecond === null || perSecond === undefined ? '–' : `${bytes(perSecond)}/s`);

/** A length of time: in its two largest units, where it is long. */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds > 0 && seconds < 1) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const units = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  let rest = Math.floor(seconds);
  const parts = units.slice(first, first + 2).map(([name, size]) => {
    const number = Math.floor(rest / size);
    rest -= number * size;
    return number && `${number} ${name}`;
  });
  return parts.filter(Boolean).join(' ');
}

/** A moment in the reader's time zone. Timestamps of records may be any number, -1 for none among them. */
function time(ms) {
  const date = new Date(ms);
  if (ms < 0 || Number.isNaN(date.getTime())) return el('span', {}, `${ms}`);
  const two = (number) => `${number}`.padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const text = `${day} ${clock}.${`${date.getMilliseconds()}`.padStart(3, '0')}`;
  return el('time', { datetime: date.toISOString(), title: date.toISOString() }, text);
}

const isAbort = (error) => error.name === 'AbortError';

/** What went wrong, as a sentence. */
function words(error) {
  const text = error instanceof ApiError ? error.message : `The page failed: ${error.message}`;
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Tells the result of an action, below the head of the page. */
function say(text, isProblem = false) {
  const status = document.getElementById('status');
  status.classList.toggle('problem', isProblem);
  status.textContent = text;
}

// ---- API

class ApiError extends Error {
  /** `problem` is as RFC 9457 has it. */
  constructor(status, problem) {
    const parts = [problem.detail || problem.title || `The broker answered ${status}`];
    if (problem.retriable) parts.push('The same request may succeed later');
    if (problem.no_side_effects === false) parts.push('It may have been done all the same');
    super(parts.map((part) => part.replace(/\.$/, '')).join('. '));
    this.status = status;
  }
}

/** Asks the broker. `body` is sent as JSON unless it is a text. Returns `{data, headers, status}`. */
async function api(path, { method = 'GET', body, type = 'application/json', signal } = {}) {
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = type;
  const sent = typeof body === 'object' ? JSON.stringify(body) : body;
  try {
    const answer = await fetch(path, { method, headers, body: sent, signal, cache: 'no-store' });
    return await understood(answer);
  } catch (error) {
    if (isAbort(error) || error instanceof ApiError) throw error;
    throw new ApiError(0, { detail: 'The broker does not answer', no_side_effects: method === 'GET' });
  }
}

async function understood(answer) {
  const text = await answer.text();
  const isJson = /json/.test(answer.headers.get('Content-Type') ?? '');
  const data = isJson && text ? JSON.parse(text) : text;
  if (!answer.ok) throw new ApiError(answer.status, isJson ? data : {});
  return { data, headers: answer.headers, status: answer.status };
}

/** A path of the API: each part is encoded. */
const path = (...parts) => parts.map(encodeURIComponent).join('/');

/** A query string of what is not empty. Offsets of many partitions stay short: `:` and `,` may stand as they are. */
function query(parameters) {
  const filled = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  const text = new URLSearchParams(filled).toString().replaceAll('%3A', ':').replaceAll('%2C', ',');
  return text && `?${text}`;
}

/** `0:17,1:9` as a map, and back. */
const offsetsOf = (vector) => new Map(vector.split(',').filter(Boolean).map((pair) => pair.split(':').map(Number)));
const vectorOf = (offsets) => [...offsets].map(([partition, offset]) => `${partition}:${offset}`).join(',');

// ---- Metrics: two looks make a rate

/** Reads Prometheus' text format: name -> samples, of the names that are asked for. */
function readMetrics(text, names) {
  const found = new Map(names.map((name) => [name, []]));
  for (const line of text.split('\n')) {
    const samples = found.get(line.slice(0, line.search(/[{ ]/)));
    if (!samples) continue;
    const labels = {};
    for (const [, label, value] of line.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[label] = value;
    samples.push({ labels, value: Number(line.slice(line.lastIndexOf(' ') + 1)) });
  }
  return found;
}

class Metrics {
  constructor(names) {
    this.names = names;
    this.now = null;
    this.before = null;
  }

  async look(signal) {
    const { data } = await api('metrics', { signal });
    this.before = this.now;
    this.now = { at: performance.now(), samples: readMetrics(data, this.names) };
  }

  /** Values now, summed up by a label. */
  values(name, label, look = this.now) {
    const sums = new Map();
    for (const { labels, value } of look?.samples.get(name) ?? []) {
      sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
    }
    return sums;
  }

  /** What counters rose by in a second, by a label. A counter that fell began again with the broker: no rate. */
  rates(name, label) {
    if (!this.before) return new Map();
    const seconds = (this.now.at - this.before.at) / 1000;
    const before = this.values(name, label, this.before);
    const rose = [...this.values(name, label)].map(([key, value]) => [key, (value - (before.get(key) ?? 0)) / seconds]);
    return new Map(rose.filter(([, perSecond]) => perSecond >= 0));
  }

  /** Of a histogram, how much each bucket rose between the two looks: label -> [[upper bound, count]], not cumulative. */
  buckets(name, label) {
    if (!this.before) return new Map();
    const rose = new Map();
    const note = (look, sign) => {
      for (const { labels, value } of look.samples.get(`${name}_bucket`) ?? []) {
        const bounds = rose.get(labels[label]) ?? rose.set(labels[label], new Map()).get(labels[label]);
        const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
        bounds.set(bound, (bounds.get(bound) ?? 0) + sign * value);
      }
    };
    note(this.now, 1);
    note(this.before, -1);
    return new Map([...rose].map(([key, bounds]) => [key, apart(bounds)]));
  }
}

/** Takes the smaller buckets out of each. */
function apart(cumulative) {
  let below = 0;
  return [...cumulative].sort((one, other) => one[0] - other[0]).map(([bound, value]) => {
    const own = value - below;
    below = value;
    return [bound, own];
  });
}

/** The upper bound of the bucket that a share of all falls in. */
function quantile(buckets, share) {
  const all = (buckets ?? []).reduce((sum, [, number]) => sum + number, 0);
  if (all <= 0) return '–';
  let passed = 0;
  const [bound] = buckets.find(([, number]) => (passed += number) >= all * share);
  if (bound !== Infinity) return `≤ ${duration(bound)}`;
  return `> ${duration(buckets[buckets.length - 2][0])}`;
}

/** A line of `{timestamp, value}` over the last hour. Its upper edge is `top`, or else the highest value. */
function sparkline(points, what, { width = 160, height = 28, top = null } = {}) {
  const end = Date.now();
  const shown = points.filter((point) => point.timestamp >= end - HOUR_MS && point.value !== null);
  if (shown.length < 2) return el('span', { class: 'dim' }, 'not enough points yet');
  const highest = shown.reduce((most, point) => Math.max(most, point.value), 0);
  // A short past fills the width as well: what was there, not where it was missing.
  const start = shown[0].timestamp;
  const span = Math.max(end - start, 1);
  const place = ({ timestamp, value }) => {
    const x = ((timestamp - start) / span) * width;
    const y = height - 2 - (value / (top ?? (highest || 1))) * (height - 4);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  };
  const label = `${what}: now ${count(shown.at(-1).value)}, highest ${count(highest)} in ${duration(span / 1000)}`;
  return el('svg', { class: 'spark', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    el('title', {}, label),
    el('line', { x1: 0, y1: height - 1, x2: width, y2: height - 1 }),
    el('polyline', { points: shown.map(place).join(' ') }));
}

// ---- Tables

/**
 * A table that is shown again and again. A row stays the same element as long as its key is there, so that focus and
 * selection stay.
 *
 * A column has a `head`, and `text(item)`, or `node(item)` which is made once, or `draw(cell, item)`. It may have
 * `number` (to the right), `sort(item)`, and `data` (what it shows comes from records). The first column heads its row.
 * With `isTitled` a title above says what the caption says.
 */
class Table {
  constructor(caption, columns, { key, empty = 'There are none.', sorted = null, descending = false, rowsMax = ROWS_MAX, isTitled = false }) {
    Object.assign(this, { columns, key, empty, sorted, descending, rowsMax });
    this.items = [];
    this.rows = new Map();
    this.shown = [];
    this.heads = columns.map((column) => this.head(column));
    this.body = el('tbody');
    this.note = el('p', { class: 'dim' });
    this.scroll = el('div', { class: 'scroll' },
      el('table', {}, el('caption', { class: isTitled && 'visually-hidden' }, caption), el('thead', {}, el('tr', {}, ...this.heads)), this.body));
    this.element = el('div', {}, this.scroll, this.note);
  }

  head(column) {
    const attributes = { scope: 'col', class: column.number && 'number' };
    if (!column.sort) return el('th', attributes, column.head);
    return el('th', attributes, button(column.head, () => this.sortBy(column)));
  }

  sortBy(column) {
    this.descending = this.sorted === column.head ? !this.descending : Boolean(column.number);
    this.sorted = column.head;
    this.show(this.items);
  }

  show(items) {
    this.items = items;
    this.shown = this.inOrder(items).slice(0, this.rowsMax);
    const focused = document.activeElement;
    const keys = new Set(this.shown.map(this.key));
    for (const [key, row] of this.rows) if (!keys.has(key)) this.drop(key, row);
    this.shown.forEach((item, place) => this.place(item, place));
    // A row that moves loses the focus.
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
    this.scroll.hidden = items.length === 0;
    // What is moved sideways can be moved by the keyboard.
    if (this.scroll.scrollWidth > this.scroll.clientWidth) this.scroll.tabIndex = 0;
    else this.scroll.removeAttribute('tabindex');
    const isCut = items.length > this.rowsMax;
    setText(this.note, items.length === 0 ? this.empty : isCut ? `${count(this.rowsMax)} of ${count(items.length)} are shown.` : '');
  }

  inOrder(items) {
    const column = this.columns.find(({ head }) => head === this.sorted);
    this.columns.forEach(({ head, sort }, place) => {
      const order = this.descending ? 'descending' : 'ascending';
      if (sort) this.heads[place].setAttribute('aria-sort', head === this.sorted ? order : 'none');
    });
    if (!column) return items;
    const sign = this.descending ? -1 : 1;
    return [...items].sort((one, other) => sign * compared(column.sort(one), column.sort(other)));
  }

  drop(key, row) {
    row.remove();
    this.rows.delete(key);
  }

  place(item, place) {
    const key = this.key(item);
    const row = this.rows.get(key) ?? this.make(key, item);
    this.columns.forEach((column, index) => {
      const cell = row.cells[index];
      if (column.text) setText(cell, column.text(item));
      else if (column.draw) column.draw(cell, item);
    });
    if (this.body.children[place] !== row) this.body.insertBefore(row, this.body.children[place] ?? null);
  }

  make(key, item) {
    const cells = this.columns.map((column, index) => {
      const kinds = [column.number && 'number', column.data && 'data'].filter(Boolean).join(' ');
      const cell = el(index === 0 ? 'th' : 'td', { scope: index === 0 && 'row', class: kinds || null });
      if (column.node) cell.append(column.node(item));
      return cell;
    });
    const row = el('tr', {}, ...cells);
    this.rows.set(key, row);
    return row;
  }
}

/** What is not known comes below everything. */
function compared(one, other) {
  const [a, b] = [one ?? -Infinity, other ?? -Infinity];
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A list of names and values. What is null is left out. */
class Facts {
  constructor() {
    this.element = el('dl', { class: 'facts' });
    this.known = new Map();
  }

  set(name, text) {
    let pair = this.known.get(name);
    if (text === null || text === undefined) {
      pair?.forEach((node) => node.remove());
      this.known.delete(name);
      return;
    }
    if (!pair) {
      pair = [el('dt', {}, name), el('dd')];
      this.known.set(name, pair);
      this.element.append(...pair);
    }
    if (text instanceof Node) pair[1].replaceChildren(text);
    else setText(pair[1], text);
  }
}

// ---- Forms

let fieldCount = 0;

/** A control with its label, and a hint that is read with it. */
function field(label, control, { hint, wide } = {}) {
  fieldCount += 1;
  control.id = `field-${fieldCount}`;
  const isCheck = control.type === 'checkbox';
  const note = hint && el('span', { class: 'hint', id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute('aria-describedby', note.id);
  const name = el('label', { for: control.id }, label);
  const kinds = ['field', wide && 'wide', isCheck && 'check'].filter(Boolean).join(' ');
  return el('div', { class: kinds }, ...(isCheck ? [control, name] : [name, control]), note);
}

const input = (attributes = {}) => el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', ...attributes });
const textarea = (attributes = {}) => el('textarea', { spellcheck: 'false', ...attributes });

/** A choice of `[value, text]`. */
function select(options, attributes = {}) {
  const made = el('select', attributes, ...options.map(([value, text]) => el('option', { value }, text)));
  made.value = attributes.value ?? options[0]?.[0] ?? '';
  return made;
}

/** A choice of a partition. Of very many only the first are offered. */
function partitionSelect(partitions, all) {
  const each = partitions.slice(0, 1_000).map(({ partition }) => [`${partition}`, `${partition}`]);
  return select([['', all], ...each]);
}

/** A box that filters a list by a part of its names. */
function filterBox(what, change) {
  const box = input({ type: 'search', input: change });
  return { box, element: field(`Filter ${what} by name`, box), takes: (name) => name.toLowerCase().includes(box.value.toLowerCase()) };
}

/** A dialog. The browser keeps the focus inside, and gives it back; Escape closes it. */
function openDialog(title, ...children) {
  fieldCount += 1;
  const heading = el('h2', { id: `dialog-${fieldCount}` }, title);
  const dialog = el('dialog', { 'aria-labelledby': heading.id, close: () => dialog.remove() }, heading, ...children);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * A dialog with a form. `action` returns what to say; `null` leaves the dialog open. With `confirm` its button works when
 * that name has been typed.
 */
function formDialog(title, children, submitText, action, { confirm } = {}) {
  const problem = el('p', { class: 'problem', role: 'alert' });
  const submit = el('button', { class: confirm ? 'danger' : 'main', disabled: Boolean(confirm) }, submitText);
  const typed = input({ input: () => { submit.disabled = typed.value !== confirm; } });
  const sure = confirm && field(`Type ${confirm} to confirm`, typed);
  const run = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.textContent = '';
    try {
      const done = await action();
      if (done !== null) dialog.close();
      if (done) say(done);
    } catch (error) {
      problem.textContent = words(error);
    }
    submit.disabled = Boolean(confirm) && typed.value !== confirm;
  };
  const buttons = el('div', { class: 'buttons' }, submit, button('Close', () => dialog.close()));
  const dialog = openDialog(title, el('form', { submit: run }, ...children, sure, problem, buttons));
  return dialog;
}

// ---- Views and routes

/** What is shown of one address. All that it began ends when it is left. */
class View {
  constructor() {
    this.ended = new AbortController();
    this.signal = this.ended.signal;
    this.heading = el('h2', { tabindex: -1 });
    this.root = el('div', {}, this.heading);
  }

  title(text) {
    setText(this.heading, text);
    document.title = `${text} – Millstream`;
  }

  add(...nodes) {
    this.root.append(...nodes);
  }

  onEnd(task) {
    this.signal.addEventListener('abort', task);
  }

  end() {
    this.ended.abort();
  }

  /** Runs a task now and again, until the view ends. A broker that takes long, and a tab that is hidden, are asked less often. */
  repeat(ms, task) {
    let timer = 0;
    let isRunning = false;
    const trouble = el('p', { class: 'problem', role: 'status' });
    this.heading.after(trouble);
    const run = async () => {
      if (isRunning || this.signal.aborted) return;
      isRunning = true;
      clearTimeout(timer);
      const began = performance.now();
      try {
        await task();
        setText(trouble, '');
      } catch (error) {
        if (!isAbort(error)) setText(trouble, `${words(error)} This is tried again.`);
      }
      isRunning = false;
      if (this.signal.aborted) return;
      const pause = Math.max(ms, 10 * (performance.now() - began));
      timer = setTimeout(run, document.hidden ? 10 * pause : pause);
    };
    const wake = () => { if (!document.hidden) run(); };
    document.addEventListener('visibilitychange', wake, { signal: this.signal });
    this.onEnd(() => clearTimeout(timer));
    run();
    return run;
  }
}

const ROUTES = {
  topics: { show: topicsView, nav: 'topics' },
  topic: { show: topicView, nav: 'topics' },
  groups: { show: groupsView, nav: 'groups' },
  group: { show: groupView, nav: 'groups' },
  cores: { show: coresView, nav: 'cores' },
};

let current = null;
/** What to say in the view that comes next. */
let sayNext = '';

function go(hash, text) {
  sayNext = text;
  location.hash = hash;
}

/** `#/topic/NAME?from=newest` -> its parts. */
function route() {
  const [, place, parameters] = /^#?\/?([^?]*)\??(.*)$/s.exec(location.hash);
  const [kind, ...name] = place.split('/');
  return { kind: Object.hasOwn(ROUTES, kind) ? kind : 'topics', name: decoded(name.join('/')), parameters: new URLSearchParams(parameters) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function navigate() {
  const isFirst = current === null;
  current?.end();
  document.querySelectorAll('dialog').forEach((dialog) => dialog.close());
  if (!isFirst) say(sayNext);
  sayNext = '';
  const { kind, name, parameters } = route();
  for (const anchor of document.querySelectorAll('[data-view]')) {
    if (anchor.dataset.view === ROUTES[kind].nav) anchor.setAttribute('aria-current', 'page');
    else anchor.removeAttribute('aria-current');
  }
  current = new View();
  document.getElementById('main').replaceChildren(current.root);
  ROUTES[kind].show(current, name, parameters);
  if (!isFirst) current.heading.focus();
}

// ---- Warnings and the head of the page

async function showWarnings() {
  const { data } = await api('api/warnings');
  const all = data.warnings.length;
  const items = data.warnings.slice(0, WARNINGS_SHOWN_MAX).map(({ severity, check, what, todo }) =>
    el('li', {}, el('span', { class: `severity ${severity}` }, severity), ` (${check}): `, ...withCode(what), '. ', ...withCode(capital(todo))));
  if (all > items.length) items.push(el('li', {}, ...withCode(`${count(all - items.length)} more: \`millstream doctor\` tells them.`)));
  const list = document.getElementById('warnings-list');
  const next = el('ul', { id: 'warnings-list' }, ...items);
  if (list.isEqualNode(next)) return;
  document.getElementById('warnings').hidden = all === 0;
  // Their words change as time goes by: only how many there are is read out.
  setText(document.getElementById('warnings-count'), all === 0 ? 'No warnings.' : `${plural(all, 'warning')}.`);
  list.replaceWith(next);
}

/** A text with what is between backticks as code. */
const withCode = (text) => text.split('`').map((part, place) => (place % 2 === 0 ? part : el('code', {}, part)));

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

async function showBroker() {
  const { data } = await api('metrics');
  const info = readMetrics(data, ['millstream_info']).get('millstream_info')[0]?.labels;
  if (!info) return;
  const promise = { fsync: 'fsync (acknowledged records survive a power cut)', os: 'os (a power cut loses acknowledged records)' };
  setText(document.getElementById('broker'), `version ${info.version}, durability ${promise[info.durability] ?? info.durability}`);
}

/** Asks again and again, for as long as the page is open. */
function forever(ms, task) {
  const run = async () => {
    try {
      await task();
    } catch (error) {
      // The view tells what is wrong. A broker without this route is not asked again.
      if (error.status === 404) return;
    }
    setTimeout(run, document.hidden ? 10 * ms : ms);
  };
  run();
}

// ---- Topics

function topicsView(view) {
  view.title('Topics');
  const metrics = new Metrics(['millstream_topic_appended_records_total', 'millstream_topic_appended_bytes_total']);
  // Own configs by topic, of the topics that were shown.
  const configs = new Map();
  let topics = [];
  const filter = filterBox('topics', () => show());
  const internal = el('input', { type: 'checkbox', change: () => show() });
  const table = new Table('Topics. Rates are those of the last seconds.', topicColumns(), {
    key: ({ name }) => name, sorted: 'Topic', empty: 'There is no such topic.',
  });
  const show = () => {
    const records = metrics.rates('millstream_topic_appended_records_total', 'topic');
    const sizes = metrics.rates('millstream_topic_appended_bytes_total', 'topic');
    const shown = topics.filter((topic) => (internal.checked || !topic.internal) && filter.takes(topic.name));
    table.show(shown.map((topic) => ({
      ...topic, records: records.get(topic.name), byteRate: sizes.get(topic.name), configs: configs.get(topic.name),
    })));
    const unseen = topics.length > records.size && records.has('(other)');
    note.hidden = !unseen;
  };
  const note = el('p', { class: 'hint', hidden: true }, 'The broker shows rates of a limited number of topics (metrics_topics_max).');
  const create = button('Create topic…', createTopicDialog, { class: 'main' });
  view.add(el('div', { class: 'fields' }, filter.element, field('Show internal topics', internal), create), table.element, note);
  view.repeat(POLL_MS, async () => {
    const [list] = await Promise.all([api('api/topics', { signal: view.signal }), metrics.look(view.signal)]);
    topics = list.data;
    show();
    await readConfigs(table.shown, configs, view.signal);
    show();
  });
}

function topicColumns() {
  return [
    { head: 'Topic', node: ({ name }) => link(topicHash(name), name), sort: ({ name }) => name },
    { head: 'Records/s', number: true, text: ({ records }) => rate(records), sort: ({ records }) => records },
    { head: 'Bytes/s', number: true, text: (topic) => byteRate(topic.byteRate), sort: (topic) => topic.byteRate },
    { head: 'Size', number: true, text: (topic) => bytes(topic.bytes), sort: (topic) => topic.bytes },
    { head: 'Partitions', number: true, text: ({ partitions }) => count(partitions), sort: ({ partitions }) => partitions },
    { head: 'Own configs', text: ({ configs }) => (configs === undefined ? '…' : configs || 'defaults') },
  ];
}

/** Reads the configs of topics that are not known yet, one after the other: they may be hundreds. */
async function readConfigs(topics, configs, signal) {
  for (const { name } of topics.filter((topic) => !configs.has(topic.name))) {
    const own = await api(path('api', 'topics', name), { signal }).then(({ data }) => data.configs, goneIs({}));
    configs.set(name, Object.entries(own).map(([config, value]) => `${config}=${value}`).join(', '));
  }
}

/** What is gone since the list was made is no failure of the list. */
function goneIs(value) {
  return (error) => {
    if (error.status !== 404) throw error;
    return value;
  };
}

function createTopicDialog() {
  const name = input({ required: true, maxlength: 249 });
  const partitions = el('input', { type: 'number', min: 1 });
  const configs = textarea({ placeholder: 'retention.ms=86400000' });
  const fields = [
    field('Name', name),
    field('Partitions', partitions, { hint: 'Empty: num_partitions of the broker.' }),
    field('Configs', configs, { wide: true, hint: 'One a line, as in cleanup.policy=compact. Empty: the defaults of the broker.' }),
  ];
  formDialog('Create topic', fields, 'Create', async () => {
    const body = { configs: configsOf(configs.value) };
    if (partitions.value) body.partitions = Number(partitions.value);
    const { status } = await api(path('api', 'topics', name.value), { method: 'PUT', body });
    go(topicHash(name.value), status === 201 ? `Topic ${name.value} was created.` : `Topic ${name.value} was there already.`);
  });
}

function configsOf(text) {
  const lines = text.split('\n').map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const [name, ...value] = line.split('=');
    return [name.trim(), value.join('=').trim()];
  }));
}

// ---- One topic

function topicView(view, name, parameters) {
  view.title(`Topic ${name}`);
  const facts = new Facts();
  const state = { name, topic: null, configs: null, signal: view.signal };
  const place = el('div');
  const refresh = [];
  const actions = el('div', { class: 'buttons', hidden: true },
    button('Send record…', () => sendDialog(state.topic)),
    button('Delete records…', () => deleteRecordsDialog(state)),
    button('Delete topic…', () => deleteTopicDialog(name)));
  view.add(actions, facts.element, place);

  const metrics = new Metrics(['millstream_topic_appended_bytes_total', 'millstream_topic_log_bytes']);
  let before = null;
  view.repeat(METRICS_MS, async () => {
    const [{ data }] = await Promise.all([api(path('api', 'topics', name), { signal: view.signal }), metrics.look(view.signal)]);
    const isFirst = state.topic === null;
    state.topic = data;
    before = showTopicFacts(facts, data, metrics, before);
    if (isFirst) {
      actions.hidden = data.internal;
      place.append(messages(view, data, parameters), ...topicDetails(view, state, refresh));
      view.repeat(SLOW_MS, async () => {
        await showRetention(facts, state);
        refresh.forEach((task) => task());
      });
    }
    refresh.forEach((task) => task());
  });
}

/** Returns what the next look is compared with. */
function showTopicFacts(facts, topic, metrics, before) {
  const now = { at: performance.now(), end: topic.partitions.reduce((sum, { end }) => sum + end, 0) };
  const offsets = topic.partitions.reduce((sum, { start, end }) => sum + end - start, 0);
  const perSecond = before && Math.max(now.end - before.end, 0) / ((now.at - before.at) / 1000);
  const size = metrics.values('millstream_topic_log_bytes', 'topic').get(topic.name);
  const byteRateNow = metrics.rates('millstream_topic_appended_bytes_total', 'topic').get(topic.name);
  facts.set('Rate', `${rate(perSecond)} records/s, ${byteRate(byteRateNow)}`);
  facts.set('Offsets', `${count(offsets)} in ${plural(topic.partitions.length, 'partition')}`);
  // The broker has metrics of some topics only; the list of topics, which is looked at less often, has them all.
  if (size !== undefined) facts.set('Size', bytes(size));
  return now;
}

/** How old the oldest record is, and what retention leaves of it. */
async function showRetention(facts, state) {
  const { name, signal } = state;
  const [{ data: configs }, { data: oldest }, { data: topics }] = await Promise.all([
    api(path('api', 'topics', name, 'configs'), { signal }),
    api(path('t', name) + query({ from: 'earliest', max: 1 }), { signal }),
    api('api/topics', { signal }),
  ]);
  state.configs = configs;
  const topic = topics.find((one) => one.name === name);
  const config = (key) => configs.find((one) => one.name === key)?.value;
  if (topic) facts.set('Size', bytes(topic.bytes));
  const age = oldest.length > 0 && oldest[0].timestamp >= 0 ? Date.now() - oldest[0].timestamp : null;
  facts.set('Oldest record', age === null ? null : `${duration(Math.max(age, 0) / 1000)} old`);
  const deletes = config('cleanup.policy')?.includes('delete');
  facts.set('Retention by time', deletes ? timeLeft(Number(config('retention.ms')), age) : 'off');
  facts.set('Retention by size', deletes ? sizeLeft(Number(config('retention.bytes')), topic) : 'off');
}

function timeLeft(retentionMs, age) {
  if (retentionMs < 0) return 'no limit';
  const limit = duration(retentionMs / 1000);
  if (age === null) return limit;
  const left = retentionMs - age;
  // Segments go as a whole, when their newest record is old enough.
  return left > 0
    ? `${limit}; the oldest record has at least ${duration(left / 1000)} left`
    : `${limit}; the oldest record goes with its segment`;
}

function sizeLeft(retentionBytes, topic) {
  if (retentionBytes < 0) return 'no limit';
  const limit = `${bytes(retentionBytes)} for each partition`;
  if (!topic) return limit;
  if (topic.partitions > 1) return `${limit}, ${bytes(retentionBytes * topic.partitions)} in all; ${bytes(topic.bytes)} are used`;
  return `${limit}; ${bytes(Math.max(retentionBytes - topic.bytes, 0))} are left`;
}

/** Partitions and configs. `refresh` gets what is to run after each look. */
function topicDetails(view, state, refresh) {
  const partitions = new Table('Partitions: the offsets that they begin and end with.', [
    { head: 'Partition', number: true, text: ({ partition }) => `${partition}` },
    { head: 'Start', number: true, text: ({ start }) => count(start) },
    { head: 'End', number: true, text: ({ end }) => count(end) },
    { head: 'Offsets', number: true, text: ({ start, end }) => count(end - start) },
  ], { key: ({ partition }) => partition });
  refresh.push(() => partitions.show(state.topic.partitions));
  const more = !state.topic.internal && button('Add partitions…', () => addPartitionsDialog(state));
  return [
    el('h3', {}, 'Configs'), ...configsSection(view, state, refresh),
    el('h3', {}, 'Partitions'), el('details', {}, el('summary', {}, 'Offsets by partition'), partitions.element), more,
  ];
}

function configsSection(view, state, refresh) {
  const all = el('input', { type: 'checkbox', change: () => show() });
  const table = new Table('Configs that are not the default of the broker come first.', [
    { head: 'Config', text: ({ name }) => name },
    { head: 'Value', data: true, text: ({ value }) => value },
    { head: 'Set by', text: (config) => (config.default ? 'broker (default)' : 'topic') },
    { head: 'Change', node: ({ name }) => button(`Change ${name}…`, () => configDialog(state, name, reload), { class: 'plain' }) },
  ], { key: ({ name }) => name, empty: 'All configs have the defaults of the broker.' });
  const show = () => {
    if (!state.configs) return;
    const own = state.configs.filter((config) => !config.default);
    table.show(all.checked ? [...own, ...state.configs.filter((config) => config.default)] : own);
  };
  const reload = async () => {
    const { data } = await api(path('api', 'topics', state.name, 'configs'), { signal: view.signal });
    state.configs = data;
    show();
  };
  refresh.push(show);
  return [field('Show defaults too', all), table.element];
}

function configDialog(state, name, reload) {
  const config = state.configs.find((one) => one.name === name);
  const value = input({ value: config.value });
  const back = el('input', { type: 'checkbox', change: () => { value.disabled = back.checked; } });
  const fields = [field(name, value, { wide: true }), !config.default && field('Back to the default', back)];
  formDialog(`Change a config of ${state.name}`, fields, 'Change', async () => {
    await api(path('api', 'topics', state.name), { method: 'PATCH', body: { configs: { [name]: back.checked ? null : value.value } } });
    await reload();
    return `${name} was changed.`;
  });
}

function addPartitionsDialog(state) {
  const now = state.topic.partitions.length;
  const wanted = el('input', { type: 'number', min: now + 1, value: now + 1, required: true });
  const hint = 'Partitions cannot be taken away again, and the same key may go to another partition than before.';
  formDialog(`Add partitions to ${state.name}`, [field('Partitions in all', wanted, { hint })], 'Add', async () => {
    await api(path('api', 'topics', state.name), { method: 'PATCH', body: { partitions: Number(wanted.value) } });
    // The choices of partitions are made anew.
    navigate();
    return `${state.name} has ${plural(Number(wanted.value), 'partition')}.`;
  });
}

function deleteTopicDialog(name) {
  const text = el('p', {}, `This deletes the topic ${name} and all of its records. It cannot be undone.`);
  formDialog(`Delete topic ${name}`, [text], 'Delete topic', async () => {
    await api(path('api', 'topics', name) + query({ confirm: name }), { method: 'DELETE' });
    go('#/topics', `Topic ${name} was deleted.`);
  }, { confirm: name });
}

function deleteRecordsDialog({ name, topic }) {
  // As they are now: what comes while the dialog is open is not deleted.
  const { partitions } = topic;
  const which = partitionSelect(partitions, 'all partitions');
  const offset = el('input', { type: 'number', min: 0, required: true });
  const offsetField = field('Delete records before offset', offset);
  const plan = el('p', { 'aria-live': 'polite' });
  const chosen = () => (which.value === ''
    ? partitions.map(({ partition, end }) => [partition, end])
    : [[Number(which.value), Number(offset.value)]]);
  const show = () => {
    offsetField.hidden = offset.disabled = which.value === '';
    const gone = chosen().reduce((sum, [index, before]) => {
      const { start, end } = partitions.find(({ partition }) => partition === index);
      return sum + Math.max(Math.min(before, end) - start, 0);
    }, 0);
    setText(plan, `This deletes what is at ${plural(gone, 'offset')}. It cannot be undone.`);
  };
  which.addEventListener('change', () => {
    offset.value = partitions.find(({ partition }) => `${partition}` === which.value)?.end ?? '';
    show();
  });
  offset.addEventListener('input', show);
  show();
  formDialog(`Delete records of ${name}`, [el('div', { class: 'fields' }, field('Partition', which), offsetField), plan],
    'Delete records', () => deleteRecords(name, chosen()), { confirm: name });
}

/** An address has room for some hundred partitions. */
async function deleteRecords(name, before) {
  for (let at = 0; at < before.length; at += 500) {
    await api(path('t', name) + query({ before: vectorOf(before.slice(at, at + 500)) }), { method: 'DELETE' });
  }
  return `Records of ${name} were deleted.`;
}

// ---- Messages: the newest, a search, or a tail

const FROM = [
  ['newest', `the newest ${NEWEST_COUNT}`],
  ['earliest', 'the beginning'],
  ['15m', '15 minutes ago'],
  ['1h', '1 hour ago'],
  ['1d', '1 day ago'],
  ['time', 'a time…'],
  ['offset', 'an offset…'],
];
const AGO_MS = { '15m': HOUR_MS / 4, '1h': HOUR_MS, '1d': DAY_MS };

function messages(view, topic, parameters) {
  const form = new MessageForm(topic, parameters);
  const list = new RecordList((record) => recordDialog(topic, record));
  const reader = new Reader(view, topic, list);
  const look = () => reader.look(form.wanted());
  form.element.addEventListener('submit', (event) => {
    event.preventDefault();
    history.replaceState(null, '', topicHash(topic.name) + query(form.parameters()));
    look();
  });
  const tail = button('Live tail', () => reader.tail(form.wanted()));
  form.buttons.append(el('button', { class: 'main' }, 'Show'), tail, reader.stop, reader.pause, reader.more);
  look();
  const record = parameters.get('record');
  if (record) openRecord(topic, record, view.signal);
  return el('section', { 'aria-label': 'Messages' }, el('h3', {}, 'Messages'), form.element, reader.element, list.element);
}

/** The form that says which records are wanted. An address has the same as `?key=…&from=…`. */
class MessageForm {
  constructor(topic, parameters) {
    const given = (name) => parameters.get(name) ?? '';
    this.key = input({ value: given('key') });
    this.grep = input({ value: given('grep') });
    this.header = input({ value: given('header'), placeholder: 'NAME or NAME:VALUE' });
    this.partition = partitionSelect(topic.partitions, 'all');
    this.partition.value = given('partition');
    this.from = select(FROM, { change: () => this.showFrom() });
    this.time = el('input', { type: 'datetime-local', step: 1, required: true });
    this.offset = el('input', { type: 'number', min: 0, required: true });
    this.timeField = field('Time (your time zone)', this.time);
    this.offsetField = field('Offset', this.offset);
    this.hint = el('p', { class: 'hint' });
    this.buttons = el('div', { class: 'buttons' });
    this.setFrom(given('from') || 'newest');
    this.element = el('form', {},
      el('div', { class: 'fields' },
        field('Key (exact)', this.key), field('Text in key or value', this.grep), field('Header', this.header),
        field('Partition', this.partition), field('From', this.from), this.timeField, this.offsetField),
      this.hint, this.buttons);
  }

  setFrom(from) {
    if (FROM.some(([value]) => value === from)) this.from.value = from;
    else if (/^\d+$/.test(from)) [this.from.value, this.offset.value] = ['offset', from];
    else if (!Number.isNaN(Date.parse(from))) [this.from.value, this.time.value] = ['time', localTime(Date.parse(from))];
    this.showFrom();
  }

  showFrom() {
    const from = this.from.value;
    this.timeField.hidden = this.time.disabled = from !== 'time';
    this.offsetField.hidden = this.offset.disabled = from !== 'offset';
    this.partition.required = from === 'offset' && this.partition.options.length > 2;
    this.hint.textContent = from === 'newest'
      ? 'The newest are looked for among the last 100,000 offsets of each partition. Choose another beginning to search all.'
      : 'The broker reads on from there, and shows what it finds while it searches.';
  }

  /** As an address has them. */
  parameters() {
    return { ...this.filters(), from: this.from.value === 'newest' ? '' : this.begin(this.from.value) };
  }

  filters() {
    return { key: this.key.value, grep: this.grep.value, header: this.header.value, partition: this.partition.value };
  }

  begin(relative) {
    if (this.from.value === 'time') return new Date(this.time.value).toISOString();
    return this.from.value === 'offset' ? this.offset.value : relative;
  }

  wanted() {
    const ago = AGO_MS[this.from.value];
    const from = this.begin(ago ? new Date(Date.now() - ago).toISOString() : this.from.value);
    return { filters: this.filters(), from };
  }
}

/** A time as `datetime-local` has it. */
function localTime(ms) {
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** Rows of records, the newest on top, and only so many. */
class RecordList {
  constructor(open) {
    this.open = open;
    this.body = el('tbody');
    this.note = el('p', { class: 'dim' });
    const heads = ['Partition', 'Offset', 'Time', 'Key', 'Value'];
    const head = el('tr', {}, ...heads.map((text, place) => el('th', { scope: 'col', class: place < 2 && 'number' }, text)));
    this.scroll = el('div', { class: 'scroll', hidden: true },
      el('table', {}, el('caption', {}, 'Records, the newest on top. The offset opens a record.'), el('thead', {}, head), this.body));
    this.element = el('div', {}, this.scroll, this.note);
    this.came = 0;
  }

  clear() {
    this.body.replaceChildren();
    this.came = 0;
    this.showNote();
  }

  /** Puts records on top; they come with the oldest first. `left` were left out before. */
  add(records, left = 0) {
    this.came += records.length + left;
    this.body.prepend(...records.map((record) => this.row(record)).reverse());
    while (this.body.rows.length > RECORD_ROWS_MAX) this.body.lastElementChild.remove();
    this.showNote();
  }

  showNote() {
    const rows = this.body.rows.length;
    this.scroll.hidden = rows === 0;
    setText(this.note, this.came > rows ? `${count(this.came)} records came. The last ${count(rows)} are shown.` : '');
  }

  row(record) {
    const { partition, offset } = record;
    const open = button(`${offset}`, () => this.open(record), {
      class: 'plain', 'aria-label': `Open the record at offset ${offset} of partition ${partition}`,
    });
    return el('tr', {},
      el('td', { class: 'number' }, `${partition}`), el('td', { class: 'number' }, open), el('td', {}, time(record.timestamp)),
      el('td', { class: 'data' }, preview(record.key, 80)), el('td', { class: 'data' }, preview(record.value, 240)));
  }
}

/** The beginning of a key or a value. What is no text is told apart by more than its colour. */
function preview(part, chars) {
  if (part === null) return el('em', { class: 'dim' }, 'null');
  if (typeof part === 'object') return el('em', { class: 'dim' }, `${count(sizeOfBase64(part.base64))} bytes`);
  return part.length > chars ? `${part.slice(0, chars)}…` : part;
}

const sizeOfBase64 = (text) => (text.length / 4) * 3 - (/=*$/.exec(text)[0].length);

/** Reads records into a list: one thing at a time. */
class Reader {
  constructor(view, topic, list) {
    Object.assign(this, { view, topic, list });
    this.status = el('p', { role: 'status' });
    this.bar = el('progress', { max: 1, value: 0, 'aria-label': 'How much was searched' });
    this.progress = this.progressTable();
    this.detail = el('details', {}, el('summary', {}, 'Progress by partition'), this.progress.element);
    this.searching = el('div', { hidden: true }, this.bar, this.detail);
    this.stop = button('Stop', () => this.end('Stopped.'), { hidden: true });
    this.pause = button('Pause', () => this.togglePause(), { hidden: true });
    this.more = button('Search on', () => this.searchOn(), { hidden: true });
    this.element = el('div', {}, this.status, this.searching);
    this.run = null;
    view.onEnd(() => this.end(''));
    document.addEventListener('visibilitychange', () => this.followVisibility(), { signal: view.signal });
  }

  progressTable() {
    return new Table('How far each partition was searched.', [
      { head: 'Partition', number: true, text: ({ partition }) => `${partition}` },
      { head: 'From', number: true, text: ({ from }) => count(from) },
      { head: 'Searched to', number: true, text: ({ next }) => count(next) },
      { head: 'End', number: true, text: ({ end }) => count(end) },
    ], { key: ({ partition }) => partition });
  }

  /** Ends what runs and begins anew. A run that is not `this.run` any more shows nothing. */
  begin(kind, wanted) {
    this.end('');
    this.list.clear();
    this.run = { kind, wanted, stop: new AbortController() };
    return this.run;
  }

  end(text) {
    const { run } = this;
    run?.stop.abort();
    run?.source?.close();
    clearTimeout(run?.timer);
    if (run?.waiting?.length > 0) this.showWaiting(run);
    if (run?.kind !== 'search') this.run = null;
    this.stop.hidden = this.pause.hidden = true;
    this.more.hidden = !(this.run?.next && text);
    this.searching.hidden = this.more.hidden;
    this.status.classList.remove('problem', 'live');
    setText(this.status, text && this.run?.next ? `${text} ${this.soFar()}` : text);
  }

  fail(run, error) {
    if (isAbort(error) || run !== this.run) return;
    this.end(words(error));
    this.status.classList.add('problem');
  }

  look(wanted) {
    if (wanted.from === 'newest') this.newest(wanted);
    else this.search(wanted);
  }

  async newest(wanted) {
    const run = this.begin('newest', wanted);
    setText(this.status, 'Reading…');
    this.stop.hidden = false;
    try {
      const { data } = await this.read(run, { ...wanted.filters, from: `-${NEWEST_COUNT}` });
      this.list.add(data);
      this.end(data.length === 0 ? 'No records.' : `The newest: ${plural(data.length, 'record')}.`);
    } catch (error) {
      this.fail(run, error);
    }
  }

  read(run, parameters) {
    return api(path('t', this.topic.name) + query(parameters), { signal: run.stop.signal });
  }

  // A search: the broker looks for some seconds a request, and says how far it came.

  async search(wanted) {
    const run = this.begin('search', wanted);
    run.found = 0;
    setText(this.status, 'Searching…');
    this.stop.hidden = false;
    try {
      await this.findBounds(run);
      await this.searchLoop(run);
    } catch (error) {
      this.fail(run, error);
    }
  }

  async searchOn() {
    const { run } = this;
    run.stop = new AbortController();
    this.more.hidden = true;
    this.stop.hidden = false;
    try {
      await this.searchLoop(run);
    } catch (error) {
      this.fail(run, error);
    }
  }

  /** Where the search begins in each partition, and the ends of now, where it will be done. */
  async findBounds(run) {
    const { partition } = run.wanted.filters;
    const { data } = await api(path('api', 'topics', this.topic.name), { signal: run.stop.signal });
    const searched = data.partitions.filter((one) => partition === '' || `${one.partition}` === partition);
    run.ends = new Map(searched.map((one) => [one.partition, one.end]));
    run.base = run.wanted.from === 'earliest'
      ? new Map(searched.map((one) => [one.partition, one.start]))
      : await this.findBase(run);
    run.next = new Map(run.base);
  }

  /** One record from there tells where `from` is in each partition: where this one is, and where the others go on. */
  async findBase(run) {
    const { data, headers } = await this.read(run, { from: run.wanted.from, partition: run.wanted.filters.partition, max: 1 });
    const base = offsetsOf(headers.get('Millstream-Next') ?? '');
    for (const { partition, offset } of data) base.set(partition, offset);
    return base;
  }

  async searchLoop(run) {
    let hits = 0;
    this.searching.hidden = false;
    this.showProgress(run);
    while (share(run) < 1) {
      if (hits >= SEARCH_HITS_MAX) return this.end('Paused.');
      const { data, headers } = await this.read(run, { ...run.wanted.filters, from: vectorOf(run.next), max: 100 });
      const next = offsetsOf(headers.get('Millstream-Next') ?? '');
      if (data.length === 0 && vectorOf(next) === vectorOf(run.next)) break;
      run.next = next;
      hits += data.length;
      run.found += data.length;
      this.list.add(data);
      this.showProgress(run);
    }
    const text = `Done. ${this.soFar()}`;
    run.next = null;
    this.end(text);
    this.bar.value = 1;
    this.searching.hidden = false;
  }

  showProgress(run) {
    this.bar.value = share(run);
    setText(this.status, `Searching. ${this.soFar()}`);
    this.progress.show([...run.ends].map(([partition, end]) => ({
      partition, end, from: run.base.get(partition), next: run.next.get(partition),
    })));
  }

  soFar() {
    const { found } = this.run;
    return `${plural(found, 'record')} found, ${Math.floor(100 * share(this.run))} % searched.`;
  }

  // A tail: events of the broker, shown some times a second.

  tail(wanted) {
    const run = this.begin('tail', wanted);
    Object.assign(run, { waiting: [], left: 0, next: null, isPaused: false });
    this.pause.hidden = this.stop.hidden = false;
    this.connect(run);
  }

  connect(run) {
    const { filters, from } = run.wanted;
    run.begin = run.next ?? (from === 'newest' ? `-${NEWEST_COUNT}` : from);
    const source = new EventSource(path('t', this.topic.name) + query({ ...filters, from: run.begin }) + '&follow');
    run.source = source;
    setText(this.pause, 'Pause');
    this.showTail('Connecting…', false);
    const passed = (event) => { run.next = event.lastEventId || run.next; };
    source.addEventListener('open', () => this.showTail('Live: records are shown as they come.', true));
    source.addEventListener('record', (event) => { passed(event); this.take(run, event.data); });
    source.addEventListener('caught-up', passed);
    source.addEventListener('ping', passed);
    source.addEventListener('error', (event) => this.tailError(run, source, event));
  }

  showTail(text, isLive) {
    this.status.classList.toggle('live', isLive);
    setText(this.status, text);
  }

  /** Keeps no more than can be shown: records that are left out are not even parsed. */
  take(run, text) {
    run.waiting.push(text);
    if (run.waiting.length > RECORD_ROWS_MAX) {
      run.waiting.shift();
      run.left += 1;
    }
    run.timer ??= setTimeout(() => this.showWaiting(run), 250);
  }

  showWaiting(run) {
    run.timer = null;
    this.list.add(run.waiting.map((text) => JSON.parse(text)), run.left);
    run.waiting = [];
    run.left = 0;
  }

  /** An error is a problem that the broker tells, a connection that is tried again, or a refusal. */
  async tailError(run, source, event) {
    if (run.source !== source) return;
    if (event.data) return this.fail(run, new ApiError(0, JSON.parse(event.data)));
    if (source.readyState !== EventSource.CLOSED) return this.showTail('The connection broke. Connecting again…', false);
    // The browser does not tell why it was refused: a plain request does.
    try {
      await this.read(run, { ...run.wanted.filters, from: run.begin, max: 1 });
      throw new ApiError(0, { detail: 'The broker ended the tail.' });
    } catch (error) {
      this.fail(run, error);
    }
  }

  togglePause() {
    const { run } = this;
    run.isPaused = !run.isPaused;
    if (!run.isPaused) return this.connect(run);
    this.disconnect(run);
    setText(this.pause, 'Resume');
    this.showTail('Paused. It goes on with the next record.', false);
  }

  disconnect(run) {
    run.source?.close();
    run.source = null;
  }

  /** A hidden tab takes no records; what came meanwhile comes when it is seen again. */
  followVisibility() {
    const { run } = this;
    if (run?.kind !== 'tail' || run.isPaused) return;
    if (document.hidden) this.disconnect(run);
    else if (!run.source) this.connect(run);
  }
}

/** How much of a search is done, from 0 to 1. */
function share({ base, next, ends }) {
  if (!next) return 1;
  let [done, all] = [0, 0];
  for (const [partition, end] of ends) {
    const from = Math.min(base.get(partition) ?? end, end);
    all += end - from;
    done += Math.min(next.get(partition) ?? end, end) - from;
  }
  return all === 0 ? 1 : done / all;
}

// ---- One record

/** Opens the record that an address names as `partition:offset`. */
async function openRecord(topic, place, signal) {
  const [partition, offset] = place.split(':');
  try {
    const { data } = await api(path('t', topic.name) + query({ partition, from: offset, max: 1 }), { signal });
    if (`${data[0]?.offset}` === offset) recordDialog(topic, data[0]);
    else say(`There is no record at offset ${offset} of partition ${partition}.`, true);
  } catch (error) {
    if (!isAbort(error)) say(words(error), true);
  }
}

function recordDialog(topic, record) {
  const { partition, offset } = record;
  const facts = new Facts();
  facts.set('Topic', topic.name);
  facts.set('Partition', `${partition}`);
  facts.set('Offset', `${offset}`);
  facts.set('Time', time(record.timestamp));
  const headers = Object.entries(record.headers ?? {});
  const again = () => {
    dialog.close();
    sendDialog(topic, record);
  };
  const dialog = openDialog(`Record ${partition}:${offset}`, facts.element,
    el('h3', {}, 'Key'), ...partViewer('key', record.key),
    el('h3', {}, 'Value'), ...partViewer('value', record.value),
    el('h3', {}, 'Headers'), headerTable(headers),
    el('div', { class: 'buttons' },
      button('Close', () => dialog.close(), { class: 'main' }),
      !topic.internal && button('Edit and send again…', again),
      record.value !== null && el('a', { href: path('t', topic.name, partition, offset) }, 'Raw value'),
      el('a', { href: `${topicHash(topic.name)}?record=${partition}:${offset}` }, 'Link to this record')));
  const heading = dialog.querySelector('h2');
  heading.tabIndex = -1;
  heading.focus();
}

function headerTable(headers) {
  const table = new Table('Headers of the record', [
    { head: 'Name', data: true, text: ([name]) => name },
    { head: 'Value', data: true, text: ([, value]) => (value === null ? 'null' : typeof value === 'object' ? `base64 ${value.base64}` : value) },
  ], { key: ([name]) => name, empty: 'None.', isTitled: true });
  table.show(headers);
  return table.element;
}

/** A key or a value, and a choice of the forms that it can be shown in. */
function partViewer(what, part) {
  if (part === null) return [el('p', { class: 'dim' }, what === 'value' ? 'null: where the topic is compacted this deletes the key' : 'null')];
  const forms = typeof part === 'object' ? bytesForms(part.base64) : textForms(part);
  const pre = el('pre', { tabindex: 0, 'aria-label': `The ${what}` });
  const note = el('p', { class: 'dim' });
  const show = (form) => {
    const text = forms[form]();
    pre.textContent = text.slice(0, SHOWN_CHARS_MAX);
    note.textContent = text.length > SHOWN_CHARS_MAX ? `The first ${count(SHOWN_CHARS_MAX)} characters are shown.` : '';
  };
  const names = Object.keys(forms);
  const choice = select(names.map((name) => [name, name]), { change: () => show(choice.value) });
  show(names[0]);
  return [names.length > 1 && field(`Show the ${what} as`, choice), pre, note].filter(Boolean);
}

function textForms(text) {
  const json = indented(text);
  const forms = json === null ? {} : { 'JSON, indented': () => json };
  return { ...forms, text: () => text };
}

function bytesForms(base64) {
  return { hexadecimal: () => hex(atob(base64)), base64: () => base64 };
}

/** Indents a JSON object or array, `null` for anything else. Its tokens stay as they are: large numbers lose no digit. */
function indented(text) {
  if (text.length > FORMATTED_CHARS_MAX || !/^\s*[[{]/.test(text)) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let [out, depth] = ['', 0];
  const line = () => `\n${'  '.repeat(Math.min(depth, 40))}`;
  for (const token of text.match(/"(?:[^"\\]+|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === '{' || token === '[') {
      depth += 1;
      out += token + line();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      // Nothing between them: they stay together.
      out = /[{[]\s*$/.test(out.slice(-100)) ? out.trimEnd() + token : out + line() + token;
    } else if (token === ',') out += token + line();
    else out += token === ':' ? ': ' : token;
  }
  return out;
}

/** Sixteen bytes a line: where, the bytes, and what of them is ASCII. */
function hex(binary) {
  const lines = [];
  for (let at = 0; at < Math.min(binary.length, SHOWN_CHARS_MAX / 4); at += 16) {
    const chars = [...binary.slice(at, at + 16)];
    const codes = chars.map((char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join(' ');
    const ascii = chars.map((char) => (char >= ' ' && char <= '~' ? char : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${codes.padEnd(47)}  ${ascii}`);
  }
  return lines.join('\n');
}

/** A form for a record. `like` is one that it begins with. */
function sendDialog(topic, like = { key: null, value: '', headers: {} }) {
  const kinds = [['text', 'text'], ['base64', 'base64'], ['null', 'null']];
  const part = (given) => ({
    kind: select(kinds, { value: given === null ? 'null' : typeof given === 'object' ? 'base64' : 'text' }),
    text: given === null ? '' : given.base64 ?? given,
  });
  const [key, value] = [part(like.key), part(like.value)];
  const keyText = input({ value: key.text, input: () => { if (key.kind.value === 'null') key.kind.value = 'text'; } });
  const valueText = textarea({ value: value.text, input: () => { if (value.kind.value === 'null') value.kind.value = 'text'; } });
  const headers = new HeaderRows(like.headers ?? {});
  const partition = partitionSelect(topic.partitions, 'by the key');
  const result = el('p', { role: 'status' });
  const fields = [
    el('div', { class: 'fields' }, field('Key', keyText), field('Key is', key.kind), field('Partition', partition)),
    field('Value', valueText, { wide: true }),
    field('Value is', value.kind, { hint: 'null deletes the key where the topic is compacted.' }),
    headers.element, result,
  ];
  formDialog(`Send a record to ${topic.name}`, fields, 'Send', async () => {
    result.textContent = '';
    const record = { key: partOf(key.kind, keyText), value: partOf(value.kind, valueText), headers: headers.values() };
    if (partition.value !== '') record.partition = Number(partition.value);
    const { data } = await api(path('t', topic.name), { method: 'POST', body: JSON.stringify(record), type: 'application/x-ndjson' });
    result.textContent = `Stored at offset ${data[0].offset} of partition ${data[0].partition}.`;
    return null;
  });
}

function partOf(kind, control) {
  if (kind.value === 'null') return null;
  return kind.value === 'base64' ? { base64: control.value.trim() } : control.value;
}

/** Headers to fill in. Those with bytes or without a value are sent as they came. */
class HeaderRows {
  constructor(given) {
    this.rows = el('div');
    this.kept = {};
    for (const [name, value] of Object.entries(given)) {
      if (typeof value === 'string') this.add(name, value);
      else this.kept[name] = value;
    }
    const names = Object.keys(this.kept);
    const note = names.length > 0 && el('p', { class: 'hint' }, `Sent as they are: ${names.join(', ')}`);
    this.element = el('fieldset', {}, el('legend', {}, 'Headers'), this.rows, note, button('Add header', () => this.add('', '').focus()));
  }

  add(name, value) {
    const [nameInput, valueInput] = [input({ value: name, required: true }), input({ value })];
    const row = el('div', { class: 'fields' }, field('Header name', nameInput), field('Header value', valueInput),
      button('Remove', () => row.remove(), { 'aria-label': 'Remove this header' }));
    row.pair = () => [nameInput.value, valueInput.value];
    this.rows.append(row);
    return nameInput;
  }

  values() {
    return { ...this.kept, ...Object.fromEntries([...this.rows.children].map((row) => row.pair())) };
  }
}

// ---- Groups

/** Lag over time: what the broker remembers, and what the page saw since. Group -> points, the oldest first. */
const lagHistory = new Map();
let brokerHasHistory = true;

function noteLag(group, lag, seconds) {
  const points = lagHistory.get(group) ?? [];
  points.push({ timestamp: Date.now(), lag, seconds });
  while (points[0].timestamp < Date.now() - HOUR_MS) points.shift();
  lagHistory.set(group, points);
}

/** Describes a group, with what the broker remembers of its lag if it does. */
async function describeGroup(group, signal) {
  const place = path('api', 'groups', group);
  if (brokerHasHistory) {
    try {
      const { data } = await api(`${place}?history`, { signal });
      if (data.history) lagHistory.set(group, data.history);
      return data;
    } catch (error) {
      if (error.status !== 400) throw error;
      brokerHasHistory = false;
    }
  }
  return (await api(place, { signal })).data;
}

function lagSparkline(group, of, width) {
  const points = (lagHistory.get(group) ?? []).map((point) => ({ timestamp: point.timestamp, value: point[of] }));
  return sparkline(points, of === 'lag' ? 'Lag in records' : 'Lag in seconds', { width });
}

function groupsView(view) {
  view.title('Groups');
  let groups = [];
  const known = new Set();
  const open = el('p', { hidden: true });
  const filter = filterBox('groups', () => show());
  const table = new Table('Groups that have committed offsets. Seconds are the age of the oldest record that was not committed.', [
    { head: 'Group', node: ({ group }) => link(groupHash(group), group), sort: ({ group }) => group },
    { head: 'Lag (records)', number: true, text: ({ lag }) => count(lag), sort: ({ lag }) => lag },
    { head: 'Lag (time)', number: true, text: ({ seconds }) => duration(seconds), sort: ({ seconds }) => seconds },
    { head: 'Topics', text: ({ partitions }) => topicsOf(partitions) },
    { head: 'Lag in the last hour', draw: (cell, { group }) => cell.replaceChildren(lagSparkline(group, 'lag')) },
  ], { key: ({ group }) => group, sorted: 'Lag (time)', descending: true, empty: 'There is no such group with committed offsets.' });
  const show = () => {
    table.show(groups.filter(({ group }) => filter.takes(group)));
    // A group without committed offsets is not in the list, but can be looked at.
    const name = filter.box.value.trim();
    open.hidden = name === '' || groups.some(({ group }) => group === name);
    open.replaceChildren(link(groupHash(name), `Open the group ${name}`));
  };
  view.add(el('div', { class: 'fields' }, filter.element), open, table.element);
  view.repeat(LAG_MS, async () => {
    const { data } = await api('api/groups', { signal: view.signal });
    groups = data;
    groups.slice(0, 2_000).forEach(({ group, lag, seconds }) => noteLag(group, lag, seconds));
    show();
    await readHistory(table.shown.slice(0, 20), known, view.signal);
    show();
  });
}

function topicsOf(partitions) {
  const names = [...new Set(partitions.map(({ topic }) => topic))];
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
}

/** Asks once for the past of the groups that are on top. */
async function readHistory(groups, known, signal) {
  for (const { group } of groups) {
    if (!brokerHasHistory || known.has(group)) continue;
    known.add(group);
    await describeGroup(group, signal).catch(goneIs(null));
  }
}

// ---- One group

function groupView(view, name) {
  view.title(`Group ${name}`);
  const facts = new Facts();
  const members = membersTable();
  const partitions = lagTable();
  const reset = resetSection(name, () => refresh());
  view.add(facts.element, el('h3', {}, 'Lag'), partitions.element, el('h3', {}, 'Members'), members.element, el('h3', {}, 'Reset offsets'), reset.element);
  const refresh = view.repeat(POLL_MS, async () => {
    const group = await describeGroup(name, view.signal);
    const measured = group.seconds === undefined ? await measuredLag(name, view.signal) : group;
    if (!group.history) noteLag(name, group.lag, measured?.seconds ?? null);
    showGroupFacts(facts, group, measured);
    members.show(group.members);
    partitions.show(group.partitions.map((one) => ({ ...one, seconds: one.seconds ?? secondsOf(measured, one) })));
    reset.show(group);
  });
}

function showGroupFacts(facts, group, measured) {
  facts.set('State', group.state);
  facts.set('Assignor', group.protocol || null);
  facts.set('Lag in records', count(group.lag));
  facts.set('Lag in time', measured ? duration(measured.seconds) : null);
  facts.set('Records, last hour', lagSparkline(group.group, 'lag', 320));
  facts.set('Time, last hour', lagSparkline(group.group, 'seconds', 320));
}

/** Where the group itself does not tell seconds the list of all groups does, as they were measured last. */
async function measuredLag(name, signal) {
  const { data } = await api('api/groups', { signal });
  return data.find(({ group }) => group === name);
}

function secondsOf(measured, { topic, partition }) {
  return measured?.partitions.find((one) => one.topic === topic && one.partition === partition)?.seconds;
}

function membersTable() {
  return new Table('Members', [
    { head: 'Member', text: ({ member }) => member },
    { head: 'Client', text: ({ client }) => client ?? '' },
    { head: 'Host', text: ({ host }) => host ?? '' },
    { head: 'Instance', text: ({ instance }) => instance ?? '–' },
  ], { key: ({ member }) => member, empty: 'The group has no members now.', isTitled: true });
}

function lagTable() {
  const place = ({ topic, partition }) => `${topic} ${`${partition}`.padStart(10, '0')}`;
  return new Table('Partitions that the group has committed.', [
    { head: 'Topic', node: ({ topic }) => link(topicHash(topic), topic), sort: place },
    { head: 'Partition', number: true, text: ({ partition }) => `${partition}` },
    { head: 'Committed', number: true, text: ({ offset }) => count(offset) },
    { head: 'End', number: true, text: ({ end }) => count(end) },
    { head: 'Lag (records)', number: true, text: ({ lag }) => count(lag), sort: ({ lag }) => lag },
    { head: 'Lag (time)', number: true, text: ({ seconds }) => duration(seconds), sort: ({ seconds }) => seconds },
  ], { key: place, sorted: 'Lag (records)', descending: true, empty: 'The group has committed nothing.' });
}

const RESET_TO = [
  ['earliest', 'the beginning'],
  ['latest', 'the end: skip what is there'],
  ['newest', 'some before the end of each partition'],
  ['time', 'a time'],
  ['offset', 'an offset of one partition'],
];

/** First the broker tells from where to where, then what the table shows is committed, as it may have been edited. */
function resetSection(group, done) {
  const topics = el('datalist', { id: 'reset-topics' });
  const topic = input({ required: true, list: topics.id });
  const to = select(RESET_TO, { change: () => showTo() });
  const number = el('input', { type: 'number', min: 0, required: true });
  const partition = el('input', { type: 'number', min: 0 });
  const when = el('input', { type: 'datetime-local', step: 1, required: true });
  const [numberField, whenField] = [field('Offset', number), field('Time (your time zone)', when)];
  const blocked = el('p', { class: 'hint', role: 'status' });
  let isFilled = false;
  const plan = new ResetPlan(group, done);
  const showTo = () => {
    numberField.hidden = number.disabled = to.value !== 'newest' && to.value !== 'offset';
    setText(numberField.firstChild, to.value === 'newest' ? 'Offsets before the end' : 'Offset');
    whenField.hidden = when.disabled = to.value !== 'time';
    partition.required = to.value === 'offset';
  };
  const target = () => ({
    newest: `-${number.value}`, offset: Number(number.value), time: when.value && new Date(when.value).toISOString(),
  })[to.value] ?? to.value;
  const preview = (event) => {
    event.preventDefault();
    plan.preview(topic.value, { to: target(), ...(partition.value !== '' && { partition: Number(partition.value) }) });
  };
  showTo();
  const form = el('form', { submit: preview, input: () => plan.clear() },
    el('div', { class: 'fields' }, field('Topic', topic), topics, field('To', to), numberField, whenField,
      field('Partition', partition, { hint: 'Empty: all.' })),
    el('div', { class: 'buttons' }, el('button', {}, 'Preview')));
  const show = ({ members, partitions }) => {
    const names = [...new Set(partitions.map((one) => one.topic))];
    if (names.join() !== [...topics.children].map(({ value }) => value).join()) {
      topics.replaceChildren(...names.map((value) => el('option', { value })));
    }
    if (!isFilled && names.length === 1) [topic.value] = names;
    isFilled = true;
    setText(blocked, members.length === 0 ? '' : `The group has ${plural(members.length, 'member')}. Stop them first: offsets are reset only while there are none.`);
  };
  return { element: el('div', {}, blocked, form, plan.element), show };
}

class ResetPlan {
  constructor(group, done) {
    Object.assign(this, { group, done, topic: '', moves: [] });
    this.table = new Table('Offsets before and after. The new ones can be edited.', [
      { head: 'Partition', number: true, text: ({ partition }) => `${partition}` },
      { head: 'Old', number: true, text: ({ from }) => count(from) },
      { head: 'New', number: true, node: (move) => this.edit(move) },
      { head: 'Change', number: true, text: changeOf },
    ], { key: ({ partition }) => partition });
    this.problem = el('p', { class: 'problem', role: 'alert' });
    this.confirm = el('button', { class: 'danger' }, 'Reset offsets');
    this.form = el('form', { hidden: true, submit: (event) => this.commit(event) },
      el('p', {}, 'Nothing has changed yet.'), this.table.element,
      el('div', { class: 'buttons' }, this.confirm, button('Cancel', () => this.clear())));
    this.element = el('div', {}, this.form, this.problem);
  }

  edit(move) {
    const box = el('input', {
      type: 'number', min: 0, required: true, value: move.to, 'aria-label': `New offset of partition ${move.partition}`,
      input: () => { move.to = Number(box.value); this.table.show(this.moves); },
    });
    return box;
  }

  clear() {
    this.form.hidden = true;
    this.problem.textContent = '';
  }

  async preview(topic, target) {
    this.clear();
    try {
      this.topic = topic;
      this.moves = await this.ask({ topic, ...target, dry_run: true });
      // Its inputs are made once for each partition: these are others.
      this.table.show([]);
      this.table.show(this.moves);
      this.form.hidden = false;
    } catch (error) {
      this.problem.textContent = words(error);
    }
  }

  /** Commits the offsets that the table shows, wherever the partitions end by now. */
  async commit(event) {
    event.preventDefault();
    this.confirm.disabled = true;
    try {
      const to = Object.fromEntries(this.moves.map((move) => [move.partition, move.to]));
      const made = await this.ask({ topic: this.topic, to });
      const other = made.filter((move) => move.to !== to[move.partition]);
      this.clear();
      const note = other.length === 0 ? '' : ` ${count(other.length)} of them went to the nearest offset that there is.`;
      say(`The offsets of ${this.group} in ${plural(made.length, 'partition')} of ${this.topic} were reset.${note}`);
      this.done();
    } catch (error) {
      this.problem.textContent = words(error);
    }
    this.confirm.disabled = false;
  }

  async ask(body) {
    return (await api(path('api', 'groups', this.group, 'offsets'), { method: 'POST', body })).data;
  }
}

function changeOf({ from, to }) {
  if (from === null || from === undefined) return 'none was committed';
  const by = to - from;
  return by === 0 ? 'none' : by > 0 ? `skips ${count(by)}` : `repeats ${count(-by)}`;
}

// ---- Cores

const SHARD_METRICS = [
  'millstream_shard_turn_seconds_sum', 'millstream_shard_turn_seconds_bucket', 'millstream_flush_seconds_bucket', 'millstream_flushes_total',
  'millstream_mailbox_depth', 'millstream_connections', 'millstream_inflight_requests', 'millstream_received_bytes_total',
  'millstream_sent_bytes_total', 'process_resident_memory_bytes', 'millstream_topics', 'millstream_partitions', 'millstream_info',
  'millstream_request_seconds_bucket', 'millstream_request_seconds_count',
];

function coresView(view) {
  view.title('Cores');
  const metrics = new Metrics(SHARD_METRICS);
  const busy = new Map();
  const facts = new Facts();
  const shards = shardTable(busy);
  const requests = requestTable();
  const wait = el('p', { class: 'dim' }, 'Rates need two looks: they come in some seconds.');
  view.add(facts.element, wait, shards.element, el('h3', {}, 'Requests'), requests.element);
  view.repeat(METRICS_MS, async () => {
    await metrics.look(view.signal);
    wait.hidden = metrics.before !== null;
    showBrokerFacts(facts, metrics);
    shards.show(shardRows(metrics, busy));
    requests.show(requestRows(metrics));
  });
}

function showBrokerFacts(facts, metrics) {
  const one = (name) => metrics.values(name).get(undefined);
  const info = metrics.now.samples.get('millstream_info')[0]?.labels ?? {};
  facts.set('Reactor', info.reactor);
  facts.set('Durability', info.durability);
  facts.set('Memory', `${bytes(one('process_resident_memory_bytes'))} resident, mapped segments included`);
  facts.set('Topics', `${count(one('millstream_topics'))}, with ${count(one('millstream_partitions'))} partitions`);
}

/** Each shard has a core. It is busy while its tasks run: what they took of the time between two looks. */
function shardRows(metrics, busy) {
  const now = (name) => metrics.values(name, 'shard');
  const perSecond = (name) => metrics.rates(name, 'shard');
  const columns = {
    busy: perSecond('millstream_shard_turn_seconds_sum'), turns: metrics.buckets('millstream_shard_turn_seconds', 'shard'),
    mailbox: now('millstream_mailbox_depth'), flushes: perSecond('millstream_flushes_total'),
    flush: metrics.buckets('millstream_flush_seconds', 'shard'), connections: now('millstream_connections'),
    requests: now('millstream_inflight_requests'), received: perSecond('millstream_received_bytes_total'),
    sent: perSecond('millstream_sent_bytes_total'),
  };
  return [...columns.mailbox.keys()].map((shard) => {
    const row = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values.get(shard)]));
    if (row.busy !== undefined) notePoint(busy, shard, Math.min(row.busy, 1) * 100);
    return { shard, ...row };
  });
}

function notePoint(store, key, value) {
  const points = store.get(key) ?? [];
  points.push({ timestamp: Date.now(), value });
  if (points.length > 200) points.shift();
  store.set(key, points);
}

function shardTable(busy) {
  return new Table('Shards, one on each core. Latencies are those of the last seconds.', [
    { head: 'Shard', text: ({ shard }) => shard },
    { head: 'Busy', number: true, text: (row) => (row.busy === undefined ? '–' : `${Math.round(Math.min(row.busy, 1) * 100)} %`) },
    { head: 'Busy over time', draw: (cell, { shard }) => cell.replaceChildren(sparkline(busy.get(shard) ?? [], 'Busy, in percent', { top: 100 })) },
    { head: 'Longest turn', number: true, text: ({ turns }) => quantile(turns, 1) },
    { head: 'Mailbox', number: true, text: ({ mailbox }) => count(mailbox) },
    { head: 'Flushes/s', number: true, text: ({ flushes }) => rate(flushes) },
    { head: 'Flush p50', number: true, text: ({ flush }) => quantile(flush, 0.5) },
    { head: 'Flush p99', number: true, text: ({ flush }) => quantile(flush, 0.99) },
    { head: 'Connections', number: true, text: ({ connections }) => count(connections) },
    { head: 'Requests in flight', number: true, text: ({ requests }) => count(requests) },
    { head: 'In', number: true, text: ({ received }) => byteRate(received) },
    { head: 'Out', number: true, text: ({ sent }) => byteRate(sent) },
  ], { key: ({ shard }) => shard, rowsMax: 1_024 });
}

function requestRows(metrics) {
  const rates = metrics.rates('millstream_request_seconds_count', 'api');
  const buckets = metrics.buckets('millstream_request_seconds', 'api');
  return [...rates].filter(([, perSecond]) => perSecond > 0).map(([name, perSecond]) => ({ name, perSecond, took: buckets.get(name) }));
}

function requestTable() {
  return new Table('Requests of the last seconds, by API. Those that wait for records, such as Fetch, include the wait.', [
    { head: 'API', text: ({ name }) => name, sort: ({ name }) => name },
    { head: 'Requests/s', number: true, text: ({ perSecond }) => rate(perSecond), sort: ({ perSecond }) => perSecond },
    { head: 'p50', number: true, text: ({ took }) => quantile(took, 0.5) },
    { head: 'p99', number: true, text: ({ took }) => quantile(took, 0.99) },
  ], { key: ({ name }) => name, sorted: 'Requests/s', descending: true, empty: 'None in the last seconds.' });
}

// ---- Start

document.getElementById('skip').addEventListener('click', (event) => {
  // Addresses behind # are views: this one is none.
  event.preventDefault();
  document.getElementById('main').focus();
});
window.addEventListener('hashchange', navigate);
forever(WARNINGS_MS, showWarnings);
forever(SLOW_MS, showBroker);
navigate();
