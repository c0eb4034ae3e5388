// The Samples page: asks whether anything has changed, and draws only then. Holds nothing but what this tab looks at.
const plotConfig = { responsive: true, displayModeBar: false };  // a drag zooms, a double click shows all again
const COLUMNS = [
  ['row', 'Row', 'Row number in the data'], ['bucket', 'Bucket', 'What the model makes of it'], [null, 'Text', ''],
  ['first', 'First loss', 'Loss at the first visit, nats per target token'], ['loss', 'Loss', 'Loss at the last visit, nats per target token'],
  ['confidence', 'Confid.', 'Confidence at the last visit'], ['correct', 'Correct', 'Every target token was the most likely one'],
  ['q', 'Q', 'Q-value: moving average of the reward'], ['seen', 'Seen', 'Visits that were trained on'], ['step', 'Step', 'Optimizer step of the last visit'],
];
const DOWN_FIRST = ['first', 'loss', 'seen', 'step'];
const BUCKETS = [['', 'All'], ['freeze', 'FREEZE'], ['light', 'LIGHT'], ['focus', 'FOCUS'], ['hard', 'HARD'], ['unseen', 'not seen']];
const ODD = [['suspicious', 'Suspicious'], ['wrong', 'Looks wrong'], ['contradicts', 'Other answer'], ['truncated', 'Cut off'], ['marked', 'Marked']];

let run = '', version = '', listed = '', view = { filter: '', text: '', sort: 'row', down: false, page: 0 };
let counts = {}, marks = {}, shownId = null, figure = null, mapData = null, mapOf = '', mapDrawn = '', timer = null, busy = false, asked = 0;

function complain(sentence) {
  q('.m-error').hidden = !sentence;
  text(q('.m-error'), sentence);
}

// ---------------------------------------------------------------- filters

function chip([name, label]) {
  const made = node('button', `m-chip ${name}`);
  made.type = 'button';
  made.dataset.filter = name;
  made.append(node('span', 'name', label), node('span', 'count'));
  made.onclick = () => change({ filter: view.filter === name ? '' : name });
  return made;
}

function drawCounts() {
  for (const made of element.querySelectorAll('.m-chip')) {
    const name = made.dataset.filter, count = counts[name] || 0;
    text(made.querySelector('.count'), count.toLocaleString('en'));
    made.setAttribute('aria-pressed', view.filter === name);
    made.hidden = !count && view.filter !== name && !['', 'freeze', 'light', 'focus', 'hard', 'suspicious', 'marked'].includes(name);
  }
}

function drawHead() {
  q('thead tr').replaceChildren(node('th', 'mark'), ...COLUMNS.map(([name, label, title]) => {
    const cell = node('th', label.toLowerCase().replace(' ', '-'));
    cell.scope = 'col';
    if (!name) { cell.textContent = label; return cell; }
    const button = node('button', '', label);
    button.type = 'button';
    button.title = title;
    if (view.sort === name) { cell.setAttribute('aria-sort', view.down ? 'descending' : 'ascending'); button.append(node('span', 'arrow', view.down ? ' ↓' : ' ↑')); }
    button.onclick = () => change({ sort: name, down: view.sort === name ? !view.down : DOWN_FIRST.includes(name) });
    cell.append(button);
    return cell;
  }));
}

// ---------------------------------------------------------------- the table

// One or two table rows: the second says, over the whole width, what is suspicious.
function tableLines(values) {
  const line = node('tr', values.id === shownId ? 'shown' : ''), mark = node('input'), cell = node('td', 'mark');
  mark.type = 'checkbox';
  mark.checked = values.marked;
  mark.setAttribute('aria-label', `Mark row ${values.row}`);
  mark.onchange = () => setMark({ ids: [values.id] }, mark.checked);
  cell.append(mark);
  line.dataset.id = values.id;
  const bucket = node('td');
  bucket.append(node('span', `m-bucket ${values.bucket}`, values.name));
  const words = node('td', 'text'), opener = node('button', 'm-open', values.text || '(empty)');
  opener.type = 'button';
  opener.setAttribute('aria-label', `Open row ${values.row}: ${values.text}`);
  words.append(opener);
  line.append(cell, node('td', 'number', values.row.toLocaleString('en')), bucket, words);
  for (const name of ['first', 'loss', 'confidence', 'correct', 'q', 'seen', 'step']) line.append(node('td', 'number', String(values[name])));
  line.onclick = (event) => { if (!event.target.closest('.mark')) open(values.id, true).catch(lost); };
  if (!values.reasons.length) return [line];
  line.classList.add('odd');
  const below = node('tr', `why ${line.className}`), reason = node('td', 'reason');
  reason.append(node('div', '', values.reasons.join(' ')));
  reason.colSpan = COLUMNS.length - 1;
  below.dataset.id = values.id;
  below.append(node('td'), node('td'), reason);
  below.onclick = line.onclick;
  return [line, below];
}

async function drawTable() {
  const mine = ++asked, data = await server.samples_page({ run, ...view });
  if (mine !== asked) return;  // a later question is on its way
  complain(data.sentence);
  if (data.sentence) return;
  drawHead();
  view.page = data.page;
  const focused = document.activeElement && document.activeElement.closest('#geko-samples tbody tr');
  const kind = focused && (document.activeElement.type === 'checkbox' ? 'input' : '.m-open');
  q('tbody').replaceChildren(...data.lines.flatMap(tableLines));
  if (focused) { const same = q(`tbody tr[data-id="${focused.dataset.id}"] ${kind}`); if (same) same.focus({ preventScroll: true }); }
  q('.m-scroll').hidden = !data.total;
  q('.m-none').hidden = !!data.total;
  text(q('.m-found'), `${data.total.toLocaleString('en')} ${data.total === 1 ? 'sample' : 'samples'}`);
  text(q('.m-number'), `${data.page + 1} of ${data.pages.toLocaleString('en')}`);
  q('.m-before').disabled = !data.page;
  q('.m-after').disabled = data.page + 1 >= data.pages;
  const narrowed = (view.filter || view.text) && data.total > 0;
  text(q('.m-all'), `Mark all ${data.total.toLocaleString('en')}`);
  q('.m-all').hidden = !narrowed || view.filter === 'marked';
  q('.m-unmark').hidden = !narrowed || !counts.marked;
  q('.m-table').setAttribute('aria-busy', 'false');
}

function change(changes) {
  view = { ...view, page: 0, ...changes };
  q('.m-table').setAttribute('aria-busy', 'true');
  drawCounts();
  drawTable().catch(lost);
}

async function setMark(which, marked) {
  try { complain((await server.samples_mark({ run, ...view, ...which, marked })).sentence); } catch { lost(); }
  again(0);
}

// ---------------------------------------------------------------- one sample

async function open(id, focus) {
  const data = await server.samples_one({ run, id });
  complain(data.sentence);
  if (data.sentence) return;
  if (shownId !== id) clearLosses();
  shownId = id;
  element.querySelectorAll('tbody tr').forEach((line) => line.classList.toggle('shown', Number(line.dataset.id) === id));
  q('.m-one').hidden = false;
  q('.m-title').replaceChildren(node('span', '', `Row ${data.row.toLocaleString('en')}`), node('span', `m-bucket ${data.bucket}`, data.name));
  text(q('.m-why'), data.why);
  q('.m-reasons').replaceChildren(...[...data.reasons, ...data.notes].map((reason) => node('li', '', reason)));
  if (data.other !== null) {
    const other = node('button', '', 'Show the other answer'), item = node('li', 'other');
    other.type = 'button';
    other.onclick = () => open(data.other, true);
    item.append(other);
    q('.m-reasons').append(item);
  }
  q('.m-text').replaceChildren(...data.pieces.map(([piece, learnt]) => node('span', learnt ? 'learnt' : '', piece)));
  text(q('.m-size'), data.size);
  drawPath(data.path, data.threshold);
  if (!focus) return;
  q('.m-title').focus({ preventScroll: true });
  q('.m-one').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}

let colouring = 0;  // the last question; answers to earlier ones are not drawn

function restLosses(error) {
  q('.m-look').disabled = false;
  text(q('.m-unsure-status'), '');
  q('.m-unsure-error').hidden = !error;
  text(q('.m-unsure-error'), error);
}

function clearLosses() {
  colouring += 1;
  restLosses('');
  q('.m-unsure').hidden = true;
  q('.m-losses').replaceChildren();
}

// Asks for the losses of the opened sample's tokens and looks at the job until it is done.
async function colour() {
  clearLosses();
  const mine = colouring;
  q('.m-look').disabled = true;
  text(q('.m-unsure-status'), 'Looking: the models are loaded first');
  const { key, error } = await server.samples_unsure({ run, id: shownId });
  let found = null, running = !error;
  while (running && mine === colouring && element.isConnected) {
    if (element.offsetParent !== null) { found = await server.look({ key, had: {} }); running = !!found && found.running; }
    if (running) await new Promise((done) => setTimeout(done, 250));
  }
  if (mine !== colouring) return;
  restLosses(error || (found ? found.error : ''));
  if (found) drawLosses(q('.m-unsure'), q('.m-losses'), found);
}

function close() {
  shownId = null;
  clearLosses();
  q('.m-one').hidden = true;
  element.querySelectorAll('tr.shown').forEach((line) => line.classList.remove('shown'));
}

const SVG = 'http://www.w3.org/2000/svg';
function shape(tag, attributes, content) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (content !== undefined) made.textContent = content;
  return made;
}

// Two small curves over the epochs: loss from 0 to its highest, confidence from 0 to 1. An epoch without a visit has no dot.
function drawPath(path, threshold) {
  const box = q('.m-path');
  if (!path.length) return box.replaceChildren(node('p', 'geko-hint', 'Known after the first epoch.'));
  const most = Math.max(0.01, ...path.map((point) => point.loss || 0));
  const last = path[path.length - 1].epoch, first = path[0].epoch;
  box.replaceChildren(
    curve(path, first, last, 'loss', 'Loss', most, most.toFixed(2), null),
    curve(path, first, last, 'confidence', 'Confidence', 1, '1', threshold),
  );
}

function curve(path, first, last, name, label, most, top, threshold) {
  const width = 380, height = 112, left = 40, right = 14, above = 26, below = 22;
  const x = (epoch) => left + (last === first ? 0.5 : (epoch - first) / (last - first)) * (width - left - right);
  const y = (value) => height - below - (value / most) * (height - below - above);
  const told = path.map((p) => `epoch ${p.epoch}: ${p[name] === null ? 'not visited' : p[name].toFixed(3)}, ${p.bucket}`).join('; ');
  const drawing = shape('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${label} over the epochs. ${told}` });
  drawing.append(shape('line', { x1: left, x2: width - right, y1: y(0), y2: y(0), class: 'axis' }));
  if (threshold !== null) drawing.append(shape('line', { x1: left, x2: width - right, y1: y(threshold), y2: y(threshold), class: 'threshold' }));
  drawing.append(shape('text', { x: left - 6, y: y(most) + 4, class: 'label end' }, top), shape('text', { x: left - 6, y: y(0) + 4, class: 'label end' }, '0'));
  drawing.append(shape('text', { x: left - 2, y: 12, class: 'label name' }, label));
  const visited = path.filter((point) => point[name] !== null);
  drawing.append(shape('polyline', { points: visited.map((p) => `${x(p.epoch)},${y(p[name])}`).join(' '), class: 'curve' }));
  for (const point of visited) {
    const dot = shape('circle', { cx: x(point.epoch), cy: y(point[name]), r: 4.5, class: `dot ${point.bucket}` });
    dot.append(shape('title', {}, `Epoch ${point.epoch}: ${point[name].toFixed(3)}, ${point.correct ? 'correct' : 'wrong'}, ${point.bucket.toUpperCase()}`));
    drawing.append(dot);
  }
  const every = Math.ceil(path.length / 12);
  path.forEach((point, i) => { if (i % every === 0) drawing.append(shape('text', { x: x(point.epoch), y: height - 6, class: 'label middle' }, point.epoch)); });
  return drawing;
}

// ---------------------------------------------------------------- the map

let gl = null;
function kind() {  // without WebGL the points are drawn as SVG
  if (gl === null) { try { gl = !!document.createElement('canvas').getContext('webgl'); } catch { gl = false; } }
  return gl ? 'scattergl' : 'scatter';
}

async function drawMap() {
  if (!mapData || !window.Plotly) return;
  const empty = mapData.traces.every((trace) => !trace.id.length);
  q('.c-map').hidden = empty;
  text(q('.m-map-note'), mapData.note);
  const key = `${mapOf} ${theme()}`;
  if (empty || mapDrawn === key) return;
  mapDrawn = key;
  figure = figure || await server.samples_figure({});
  const { data, layout } = structuredClone(figure[theme()]);
  const traces = data.map((trace, i) => ({ ...trace, type: kind(), x: mapData.traces[i].x, y: mapData.traces[i].y, customdata: mapData.traces[i].id }));
  await Plotly.react(q('.c-map'), traces, layout, plotConfig);
  if (q('.c-map').dataset.wired) return;
  q('.c-map').dataset.wired = 'yes';
  q('.c-map').on('plotly_click', (event) => open(event.points[0].customdata, true).catch(lost));
}

// ---------------------------------------------------------------- the loop

function drawRuns(data) {
  const key = JSON.stringify([data.run, data.runs]);
  if (key === listed) return;
  listed = key;
  const picker = q('.geko-runs');
  picker.replaceChildren(...data.runs.map(([id, label]) => new Option(label, id)));
  picker.value = data.run || '';
  picker.hidden = !data.runs.length;
}

async function show(data) {
  drawRuns(data);
  if (data.version === version) return drawMap();
  const other = data.run !== run;
  run = data.run;
  q('.m-body').hidden = !!data.sentence;
  q('.geko-empty').hidden = !data.sentence;
  text(q('.m-sentence'), data.sentence);
  text(q('.m-at'), data.sentence ? '' : data.at);
  if (other) { close(); view.page = 0; mapData = null; mapOf = ''; mapDrawn = ''; }
  version = data.version;
  if (data.sentence) return;
  counts = data.counts;
  marks = data.marks;
  text(q('.m-export-note'), data.export);
  q('.m-use').disabled = !counts.marked;
  drawCounts();
  await drawTable();
  if (shownId !== null) await open(shownId, false);
  if (mapOf !== data.record) { mapData = await server.samples_map({ run }); mapOf = data.record; }  // marks change no point
  await drawMap();
}

function lost() { complain('The page does not answer: is geko-app still running?'); }
function again(wait) { clearTimeout(timer); timer = setTimeout(poll, wait); }

function chosen(value) {
  try { return value === undefined ? sessionStorage.getItem('geko-samples-run') || '' : sessionStorage.setItem('geko-samples-run', value); } catch { return ''; }
}

async function poll() {
  if (!element.isConnected) return;
  if (busy) return again(50);
  busy = true;
  let wait = 1000;
  // A tab of the page that is not shown asks for nothing.
  if (document.visibilityState === 'visible' && element.offsetParent !== null) {
    try {
      const data = await server.samples_pull({ run: chosen(), version });
      await show(data);
      wait = data.active ? 1500 : 3000;
    } catch { lost(); wait = 2000; }
  }
  busy = false;
  again(wait);
}

let typing = null;
q('.m-chips').replaceChildren(...BUCKETS.map(chip));
q('.m-odd').replaceChildren(...ODD.map(chip));
q('.m-search').oninput = (event) => { clearTimeout(typing); typing = setTimeout(() => change({ text: event.target.value }), 250); };
q('.m-before').onclick = () => change({ page: view.page - 1 });
q('.m-after').onclick = () => change({ page: view.page + 1 });
q('.m-close').onclick = () => {  // back to the line that it was opened from
  const opener = element.querySelector(`tr[data-id="${shownId}"] .m-open`);
  close();
  if (opener) opener.focus();
};
q('.m-all').onclick = () => setMark({ all: true }, true);
q('.m-unmark').onclick = () => setMark({ all: true }, false);
q('.m-dataset').onclick = () => trigger('download', { run, kind: 'dataset' });
q('.m-list').onclick = () => trigger('download', { run, kind: 'list' });
q('.m-look').onclick = () => colour().catch(() => restLosses(DEAF));
q('.m-use').onclick = () => { tell('geko-use', { fields: marks }); turnTo('Train'); };
q('.geko-runs').onchange = (event) => { chosen(event.target.value); again(0); };
document.addEventListener('visibilitychange', () => again(0));
document.addEventListener('click', (event) => {
  if (event.target.closest('#geko-theme, [role="tab"]')) again(50);
});
window.addEventListener('geko-download', (event) => {
  if (!event.detail || !event.detail.url) return;
  const link = node('a');
  link.href = event.detail.url;
  link.download = event.detail.orig_name || 'samples';
  link.click();
});
poll();
