// The list of runs: asks for the lines that changed, sorts them here, and tells the other parts what was chosen.
const MOST = 6;  // runs that are compared
const SIZES = 20;  // asked for at once
const HINT = 'Press a run to open it. Tick up to six to lay their curves over one another.';
const rows = new Map();  // id -> {data, line, cells, size, asked}
let columns = null, ids = [], book = '', number = 0, chosen = [], opened = kept('geko-opened');
let order = { key: 'when', up: false };
try { chosen = JSON.parse(kept('geko-chosen') || '[]'); } catch { chosen = []; }

// ---------------------------------------------------------------- order

function worth(row) { return order.key === 'size' ? row.size?.[1] : row.data.cells[order.key].order; }

function compare(a, b) {
  const x = worth(rows.get(a)), y = worth(rows.get(b));
  if (x == null || y == null || x === '' || y === '') return (x == null || x === '') - (y == null || y === '');  // unknown ones last
  const less = typeof x === 'string' ? x.localeCompare(y) : x - y;
  return order.up ? less : -less;
}

function arrange() {
  const body = q('tbody'), sorted = [...ids].sort((a, b) => compare(a, b) || ids.indexOf(a) - ids.indexOf(b));
  sorted.forEach((id, i) => {
    const line = rows.get(id).line;
    if (body.children[i] !== line) body.insertBefore(line, body.children[i] || null);
  });
  for (const head of element.querySelectorAll('th[data-key]')) {
    const mine = head.dataset.key === order.key;
    head.setAttribute('aria-sort', mine ? (order.up ? 'ascending' : 'descending') : 'none');
  }
  q('.r-order select').value = order.key + (order.up ? '+' : '-');
}

function sortBy(key, up) {
  order = { key, up };
  arrange();
}

function head() {
  const line = q('thead tr'), picker = q('.r-order select');
  for (const [key, label] of columns) {
    const cell = node('th', 'r-' + key);
    cell.dataset.key = key;
    const textual = ['model', 'data', 'status', 'note'].includes(key);
    const upwards = textual || key === 'loss';  // what one looks for first
    cell.append(button(label, '', () => sortBy(key, order.key === key ? !order.up : upwards)));
    line.append(cell);
    picker.append(new Option(label + (textual ? ', A to Z' : ', highest first'), key + (textual ? '+' : '-')));
    picker.append(new Option(label + (textual ? ', Z to A' : ', lowest first'), key + (textual ? '-' : '+')));
  }
  picker.options[0].text = 'Newest first';
  picker.options[1].text = 'Oldest first';
  picker.onchange = () => sortBy(picker.value.slice(0, -1), picker.value.endsWith('+'));
}

// ---------------------------------------------------------------- lines

function make(data) {
  const line = node('tr'), cells = {}, tick = node('td', 'r-tick'), box = node('input');
  box.type = 'checkbox';
  box.setAttribute('aria-label', 'Compare ' + data.name);
  box.onchange = () => choose(data.id, box.checked);
  tick.append(box);
  line.append(tick);
  for (const [key, label] of columns) {
    const cell = node('td', 'r-' + key);
    cell.dataset.label = label;
    const holder = key === 'when' ? button('', 'r-open', (event) => { event.stopPropagation(); open(data.id); }) : cell;
    if (holder !== cell) cell.append(holder);
    holder.append(node('span', 'first'), node('span', 'second'));
    cells[key] = holder;
    line.append(cell);
  }
  line.onclick = (event) => { if (!event.target.closest('.r-tick') && !String(getSelection())) open(data.id); };
  return { line, cells, box, size: null, asked: '' };
}

function fill(row, data) {
  row.data = data;
  row.line.dataset.phase = data.phase;
  row.line.classList.toggle('going', data.going);
  for (const [key] of columns) {
    if (key === 'size') continue;
    const { text: first, second, full } = data.cells[key];
    text(row.cells[key].children[0], first);
    text(row.cells[key].children[1], second);
    row.cells[key].title = full || '';
  }
}

function take(news) {
  book = news.book;
  number = news.number;
  for (const data of news.rows) {
    if (!rows.has(data.id)) rows.set(data.id, make(data));
    fill(rows.get(data.id), data);
  }
  if (news.ids) {
    ids = news.ids;
    for (const [id, row] of rows) if (!ids.includes(id)) { row.line.remove(); rows.delete(id); }
    chosen = chosen.filter((id) => rows.has(id));
  }
  if (news.ids || news.rows.length) { arrange(); mark(); }
  const all = [...rows.values()], going = all.filter((row) => row.data.going).length;
  const queued = all.filter((row) => row.data.phase === 'queued').length;
  text(q('.r-count'), [`${all.length} in all`, going && `${going} running`, queued && `${queued} queued`].filter(Boolean).join(' · '));
  q('.r-none').hidden = all.length > 0;
  q('.r-scroll').hidden = q('.r-hint').hidden = q('.r-order').hidden = all.length === 0;
  return going + queued;
}

// Sizes are counted file by file on the server: a few runs at a time, and anew when a run has ended.
async function sizes() {
  const wanted = ids.filter((id) => rows.get(id).asked !== rows.get(id).data.phase).slice(0, SIZES);
  if (!wanted.length) return false;
  const found = await server.sizes({ runs: wanted });
  for (const id of wanted) {
    const row = rows.get(id);
    if (!row) continue;
    row.asked = row.data.phase;
    row.size = found[id] || null;
    text(row.cells.size.children[0], found[id] ? found[id][0] : '–');
  }
  if (order.key === 'size') arrange();
  return true;
}

// ---------------------------------------------------------------- what was chosen

function mark() {
  for (const [id, row] of rows) {
    row.box.checked = chosen.includes(id);
    row.box.disabled = chosen.length >= MOST && !row.box.checked;
    row.line.classList.toggle('opened', id === opened);
  }
  text(q('.r-hint'), chosen.length >= MOST ? 'Six runs are chosen, which is as many as a chart bears. Untick one to choose another.' : HINT);
}

function choose(id, wanted) {
  chosen = wanted ? [...chosen, id].slice(0, MOST) : chosen.filter((other) => other !== id);
  kept('geko-chosen', JSON.stringify(chosen));
  mark();
  tell('geko-chosen', chosen);
}

function open(id) {
  tell('geko-open', id);
}

window.addEventListener('geko-choose-none', () => { chosen = []; choose('', false); });
window.addEventListener('geko-open', (event) => {
  opened = event.detail;
  kept('geko-opened', opened);
  mark();
});

const again = asking(async () => {
  if (!columns) { columns = await server.columns({}); head(); }
  const before = chosen.length, working = take(await server.news({ book, number }));
  if (chosen.length !== before) choose('', false);
  return (await sizes()) ? 50 : working ? 1500 : 3000;
}, () => text(q('.r-count'), 'connection lost, trying again'));
window.addEventListener('geko-runs-changed', () => again(0));
