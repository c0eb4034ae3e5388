// The dashboard: asks the server for what came after its cursor and extends the charts with it.
// Holds nothing that the server does not know, but which run this tab looks at and the theme.
// Nothing is sent anywhere: Plotly's own button would upload the chart.
const NO_BUTTONS = ['select2d', 'lasso2d', 'sendChartToCloud'];
const plotConfig = { responsive: true, displaylogo: false, plotlyServerURL: '', showSendToCloud: false, modeBarButtonsToRemove: NO_BUTTONS };
const POINTS_HELD = 3000;  // beyond, the whole history is asked for again, thinned by the server
const LINES_HELD = 200;
const CHARTS = ['loss', 'buckets', 'pace'];
const X_OF = { steps: 0, tokens: 7, seconds: 8 }, X_OF_EVALUATION = { steps: 0, tokens: 2, seconds: 3 };  // columns
const START = { generation: 0, points: 0, evaluations: 0, log: 0 };

let figures = null, drawnTheme = null;
let run = null, cursor = START, held = 0, active, listed = '', summaryDrawn = '', watched = null, runAtStart, buttonsOf = null;
let timer = null, busy = false;
let axis = lasting('geko-axis') in X_OF ? lasting('geko-axis') : 'steps';
let logarithmic = lasting('geko-log') === 'yes';

// ---------------------------------------------------------------- charts

async function draw() {
  drawnTheme = theme();
  held = 0;
  q('.c-pace').dataset.phases = '';
  for (const name of CHARTS) {
    const figure = structuredClone(figures[name][drawnTheme]);
    figure.layout.xaxis.title.text = figures.axes[axis];
    if (name === 'loss' && logarithmic) figure.layout.yaxis.type = 'log';
    await Plotly.newPlot(q('.c-' + name), figure.data, figure.layout, plotConfig);
  }
}

// Another axis: the charts begin anew and get the whole history.
async function redraw() {
  cursor = { ...cursor, points: 0, evaluations: 0 };
  drawTools();
  if (run && figures) await draw();
  again(0);
}

function drawTools() {
  q('.t-axis').value = axis;
  q('.t-log').setAttribute('aria-pressed', String(logarithmic));
}

async function retheme() {
  if (!run || !figures || drawnTheme === theme()) return;
  drawnTheme = theme();
  for (const name of CHARTS) {
    const { layout, data } = figures[name][drawnTheme];
    await Plotly.relayout(q('.c-' + name), {
      'font.color': layout.font.color, 'hoverlabel.bgcolor': layout.hoverlabel.bgcolor,
      'xaxis.gridcolor': layout.xaxis.gridcolor, 'yaxis.gridcolor': layout.yaxis.gridcolor,
    });
    await Plotly.restyle(q('.c-' + name), {
      'line.color': data.map((trace) => trace.line.color),
      'marker.color': data.map((trace) => trace.marker?.color ?? trace.line.color),
    });
  }
}

// Whole histories replace the traces' data, later points extend it: both leave zoom and layout alone.
async function put(chart, whole, x, ys, traces) {
  if (!whole && !x.length) return;
  const data = { x: ys.map(() => x), y: ys };
  await (whole ? Plotly.restyle(chart, data, traces) : Plotly.extendTraces(chart, data, traces));
}

async function plot(data) {
  const points = data.points, whole = data.had.points === 0 && held + points.length > 0;
  const column = (i) => points.map((point) => point[i]);
  const x = column(X_OF[axis]);
  await put(q('.c-loss'), whole, x, [column(1), column(2)], [0, 1]);
  await put(q('.c-buckets'), whole, x, [3, 4, 5, 6].map(column), [0, 1, 2, 3]);
  await put(q('.c-pace'), whole, x, [column(9), column(10)], [0, 1]);
  const evaluated = data.evaluations, anew = data.had.evaluations === 0 && (whole || evaluated.length > 0);
  await put(q('.c-loss'), anew, evaluated.map((e) => e[X_OF_EVALUATION[axis]]), [evaluated.map((e) => e[1])], [2]);
  held = whole ? points.length : held + points.length;
  cursor = held > POINTS_HELD ? { ...data.next, points: 0, evaluations: 0 } : data.next;
}

// ---------------------------------------------------------------- everything but the charts

function drawStatus(data) {
  buttonsOf = data.run;  // from now on, whatever else is still to be drawn
  q('.geko-status').dataset.phase = data.stopping ? 'stopping' : data.phase;
  q('.geko-status').classList.toggle('running', data.running);
  text(q('.s-title'), data.status.title);
  text(q('.s-detail'), data.status.detail);
  text(q('.s-life'), data.status.life);
  text(q('.b-start'), data.active ? 'Start another' : 'Start');
  q('.b-start').classList.toggle('next', !!data.active);
  q('.b-stop').hidden = !data.running && !data.queued;
  q('.b-stop').disabled = data.stopping;
  q('.b-resume').hidden = !data.resumable;
  q('.b-clear').hidden = data.running || data.queued || !data.run;
  q('.geko-progress span').style.width = (100 * data.progress) + '%';
  q('.geko-progress').setAttribute('aria-valuenow', Math.round(100 * data.progress));
  q('.geko-live').hidden = !data.run;
  q('.geko-live').classList.toggle('untrained', !!data.summary && !data.step);  // no curves where nothing was trained
  q('.geko-empty').hidden = !!data.run;
  text(q('.geko-settings'), data.settings || '');
  text(q('.s-waiting'), data.waiting);
}

function drawStats(stats) {
  const list = q('.geko-stats');
  if (list.children.length !== stats.length) {
    list.replaceChildren(...stats.map((stat) => {
      const box = node('div');
      box.append(node('dt', '', stat.name), node('dd', 'value'), node('dd', 'note'));
      return box;
    }));
  }
  stats.forEach((stat, i) => {
    text(list.children[i].querySelector('.value'), stat.value);
    text(list.children[i].querySelector('.note'), stat.note);
  });
}

function drawBars(buckets) {
  const bars = q('.geko-bars');
  if (bars.children.length !== buckets.length) {
    bars.replaceChildren(...buckets.map((bucket) => {
      const row = node('div', 'bar ' + bucket.bucket), track = node('div', 'track');
      track.append(node('span'));
      row.append(node('span', 'name', bucket.name), track, node('span', 'share'), node('span', 'count'));
      return row;
    }));
  }
  buckets.forEach((bucket, i) => {
    const row = bars.children[i];
    row.querySelector('.track span').style.width = (100 * bucket.share) + '%';
    text(row.querySelector('.share'), (100 * bucket.share).toFixed(1) + ' %');
    text(row.querySelector('.count'), bucket.count);
  });
}

function drawSummary(summary) {
  const card = q('.geko-summary'), key = JSON.stringify(summary);
  if (key === summaryDrawn) return;
  summaryDrawn = key;
  card.hidden = !summary;
  if (!summary) return;
  card.dataset.end = summary.end;
  const rows = node('dl');
  for (const [name, value] of summary.rows) {
    const row = node('div');
    row.append(node('dt', '', name), node('dd', '', value));
    rows.append(row);
  }
  card.replaceChildren(node('h3', '', summary.title), node('p', 'geko-hint', summary.reason));
  if (summary.rows.length) card.append(rows);
  card.append(path(summary.model ? 'Model' : 'Run folder', summary.model || summary.folder));
  if (summary.room) card.append(room());
  if (summary.variants.length) card.append(variants(summary.variants));
  if (!summary.code) return;
  const code = node('div', 'geko-code');
  code.append(node('pre', '', summary.code), copier(summary.code));
  card.append(code);
}

// What one may want to run next: the control, or what helps when memory ran out.
function variants(offered) {
  const row = node('div', 'geko-variants');
  for (const { name, label, why } of offered) {
    const made = button(label, '', async (event) => {
      event.currentTarget.disabled = true;
      await act('variant', { name });
    });
    made.title = why;
    row.append(made);
  }
  row.append(node('p', 'geko-hint', offered.length === 1 ? offered[0].why : ''));
  return row;
}

// On a full disk: where something can be deleted.
function room() {
  const row = node('div', 'geko-variants');
  row.append(button('See what the runs take', '', () => turnTo('Runs')), node('p', 'geko-hint', 'Old runs can be deleted there. Then press Resume.'));
  return row;
}

function path(label, value) {
  const line = node('p', 'geko-path');
  line.append(node('span', '', label), node('code', '', value), copier(value));
  return line;
}

function drawLog(lines, fresh) {
  const list = q('.geko-log ol');
  if (fresh) list.replaceChildren();
  if (!lines.length) return;
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  for (const [at, level, what] of lines) {
    const line = node('li', level);
    line.append(node('time', '', at), node('span', '', what));
    list.append(line);
  }
  while (list.children.length > LINES_HELD) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

async function drawRuns(data) {
  const key = [data.run, data.phase, data.active].join();
  if (key === listed) return;
  listed = key;
  const runs = await server.runs({}), picker = q('.geko-runs');
  const nothing = new Option(runs.length ? 'Earlier runs' : 'No runs yet', '');
  picker.replaceChildren(...(data.run ? [] : [nothing]), ...runs.map(([id, label]) => new Option(label, id)));
  picker.value = data.run || '';
  picker.hidden = !runs.length;
}

// ---------------------------------------------------------------- errors that only the worker found

function unmark() { document.querySelectorAll('.geko-field-error').forEach((mark) => mark.remove()); }

async function mark(data) {
  if (data.running || (runAtStart !== undefined && data.run !== runAtStart)) watched = data.run;
  // A failure of yesterday says nothing about the form of today: only runs that this tab saw mark a field.
  if (data.phase !== 'failed' || !data.field || watched !== data.run) return;
  watched = null;
  const field = await unfolded('field-' + data.field.replaceAll('.', '-'), data.group);
  if (!field) return;
  unmark();
  const message = node('p', 'geko-field-error', data.reason);
  message.setAttribute('role', 'alert');
  field.append(message);
  field.scrollIntoView({ block: 'center' });  // at once: what is still opening would end a smooth one
  field.addEventListener('input', unmark, { once: true });
}

// The field `id`; a folded group holds none, or hides it, so it is opened first.
async function unfolded(id, group) {
  const seen = () => document.getElementById(id)?.offsetParent;
  const head = [...document.querySelectorAll('#geko-form button.label-wrap')].find((one) => one.firstElementChild.textContent === group);
  if (!seen()) head?.click();
  for (let asked = 0; asked < 40 && !seen(); asked++) await new Promise((done) => setTimeout(done, 50));
  return document.getElementById(id);
}

// ---------------------------------------------------------------- the loop

async function show(data) {
  if (active !== undefined && data.active && data.active !== active && data.run !== data.active) {
    active = data.active;  // a run has begun: every tab turns to it
    kept('geko-shown', '');
    return again(0);
  }
  active = data.active;
  drawStatus(data);
  await mark(data);
  await drawRuns(data);
  if (!data.run) { run = null; return; }
  const fresh = data.run !== run;
  drawStats(data.stats);
  drawBars(data.buckets);
  drawSummary(data.summary);
  drawLog(data.log, fresh);
  text(q('.s-compute'), data.compute);
  text(q('.s-mastery'), data.mastery);
  text(q('.s-pace'), data.pace);
  if (fresh) { run = data.run; await draw(); }
  await plot(data);
  await drawPhases(data.phases, data.step);
}

function again(wait) { clearTimeout(timer); timer = setTimeout(poll, wait); }

async function poll() {
  if (!element.isConnected) return;
  if (busy) return again(50);  // two polls in flight would draw the same points twice
  busy = true;
  let wait = 3000;
  if (document.visibilityState === 'visible' && element.offsetParent === null) wait = 300;  // another page is open
  else if (document.visibilityState === 'visible') {
    if (!window.Plotly) wait = 100;
    else try {
      if (!figures) figures = await server.figures({});
      await retheme();
      const data = await server.pull({ run, cursor, shown: kept('geko-shown'), cleared: lasting('geko-cleared') });
      wait = data.active ? 500 : 1500;
      await show(data);
    } catch (error) {
      text(q('.s-life'), 'connection lost, trying again');
      wait = 2000;
    }
  }
  busy = false;
  again(wait);
}

async function act(name, more) {
  let error = '';
  try { error = (await server[name]({ run: buttonsOf, ...more })).error; } catch { error = DEAF; }
  q('.geko-error').hidden = !error;
  text(q('.geko-error'), error);
  again(0);
}

// ---------------------------------------------------------------- a chart as a table or a picture

// The curriculum's phases stand in the chart of the learning rate, each from its first step on.
async function drawPhases(phases, last) {
  const shown = axis === 'steps' ? phases : [], key = JSON.stringify([shown, shown.length && last, theme()]);
  if (q('.c-pace').dataset.phases === key) return;
  q('.c-pace').dataset.phases = key;
  const line = { color: figures.pace[theme()].layout.font.color, width: 1, dash: 'dot' };
  const end = (i) => (i + 1 < shown.length ? shown[i + 1][1] : last);
  await Plotly.relayout(q('.c-pace'), {
    shapes: shown.slice(1).map(([, begin]) => ({ type: 'line', xref: 'x', yref: 'paper', x0: begin, x1: begin, y0: 0, y1: 1, opacity: 0.35, line })),
    annotations: shown.map(([name, begin], i) => ({
      text: name, x: (begin + end(i)) / 2, y: 1, yref: 'paper', yanchor: 'bottom', showarrow: false, font: { size: 11 },
    })),
  });
}

function table(chart) {
  const xs = [...new Set(chart.data.flatMap((trace) => [...trace.x]))].sort((a, b) => a - b);
  const columns = chart.data.map((trace) => new Map([...trace.x].map((x, i) => [x, trace.y[i]])));
  const lines = xs.map((x) => [x, ...columns.map((column) => column.get(x) ?? '')].join(','));
  return [[figures.axes[axis], ...chart.data.map((trace) => trace.name)].join(','), ...lines].join('\n') + '\n';
}

function save(name, content) {
  const link = node('a');
  link.href = URL.createObjectURL(new Blob([content], { type: 'text/csv' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function look(id) { kept('geko-shown', id); again(0); }

q('.b-stop').onclick = () => { q('.b-stop').disabled = true; act('stop'); };
q('.b-start').onclick = () => document.getElementById('geko-start').click();
q('.b-resume').onclick = () => act('resume');
q('.b-clear').onclick = () => { lasting('geko-cleared', buttonsOf); unmark(); look(''); };
q('.geko-runs').onchange = (event) => { if (event.target.value) look(event.target.value); };
q('.t-axis').onchange = (event) => { axis = event.target.value; lasting('geko-axis', axis); redraw(); };
q('.t-log').onclick = () => { logarithmic = !logarithmic; lasting('geko-log', logarithmic ? 'yes' : 'no'); redraw(); };
element.querySelectorAll('.t-csv').forEach((pressed) => {
  pressed.onclick = () => save(`${run}-${pressed.dataset.chart}.csv`, table(q('.c-' + pressed.dataset.chart)));
});
element.querySelectorAll('.t-png').forEach((pressed) => {
  pressed.onclick = () => Plotly.downloadImage(q('.c-' + pressed.dataset.chart), { format: 'png', scale: 2, filename: `${run}-${pressed.dataset.chart}` });
});
drawTools();
document.addEventListener('visibilitychange', () => { if (document.visibilityState === 'visible') again(0); });
document.addEventListener('click', (event) => {
  if (event.target.closest('#geko-start')) {
    unmark();
    runAtStart = run;
    q('.geko-error').hidden = true;
    look('');
  }
  if (event.target.closest('#geko-theme')) {
    document.body.classList.toggle('dark');
    lasting('geko-theme', theme());
    again(0);
  }
});
poll();
