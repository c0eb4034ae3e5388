// The dashboard: polls the server for what is new since the last point and extends the charts.
// Holds nothing that the server does not know but the "cleared" run and the theme.
const q = (selector) => element.querySelector(selector);
const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
const theme = () => (document.body.classList.contains('dark') ? 'dark' : 'light');
const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ['select2d', 'lasso2d'] };
const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private mode */ } };

let figures = null, drawnTheme = null, run = null, generation = 0, since = 0, logged = '', summaryDrawn = '', timer = null, busy = false;

async function draw() {
  drawnTheme = theme();
  for (const name of ['loss', 'buckets']) {
    const figure = JSON.parse(JSON.stringify(figures[name][drawnTheme]));
    await Plotly.newPlot(q('.c-' + name), figure.data, figure.layout, config);
  }
}

async function restart(data) {
  run = data.run; generation = data.generation; since = 0;
  await draw();
}

async function retheme() {
  if (drawnTheme === theme()) return;
  drawnTheme = theme();
  for (const name of ['loss', 'buckets']) {
    const figure = figures[name][drawnTheme];
    const { uirevision, ...look } = figure.layout;
    await Plotly.relayout(q('.c-' + name), {
      'font.color': look.font.color, 'xaxis.gridcolor': look.xaxis.gridcolor, 'yaxis.gridcolor': look.yaxis.gridcolor,
      'hoverlabel.bgcolor': look.hoverlabel.bgcolor,
    });
    await Plotly.restyle(q('.c-' + name), { 'line.color': figure.data.map((trace) => trace.line.color) });
  }
}

async function extend(data) {
  const points = data.points, steps = points.map((p) => p[0]);
  if (points.length) {
    await Plotly.extendTraces(q('.c-loss'), { x: [steps, steps], y: [points.map((p) => p[1]), points.map((p) => p[2])] }, [0, 1]);
    await Plotly.extendTraces(q('.c-buckets'), { x: [steps, steps, steps, steps], y: [3, 4, 5, 6].map((i) => points.map((p) => p[i])) }, [0, 1, 2, 3]);
  }
  const evaluated = q('.c-loss').data[2];
  if (evaluated.x.length !== data.evaluations.length) {
    await Plotly.restyle(q('.c-loss'), { x: [data.evaluations.map((e) => e[0])], y: [data.evaluations.map((e) => e[1])] }, [2]);
  }
  since = data.next;
}

function node(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
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
      const row = node('div', 'bar ' + bucket.name.toLowerCase());
      const track = node('div', 'track');
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
  const rows = node('dl');
  summary.rows.forEach(([name, value]) => { const row = node('div'); row.append(node('dt', '', name), node('dd', '', value)); rows.append(row); });
  card.replaceChildren(node('h3', '', summary.title), node('p', 'geko-hint', summary.reason), rows);
  card.append(path(summary.model ? 'Model' : 'Run folder', summary.model || summary.folder));
  if (summary.code) card.append(node('pre', '', summary.code));
}

function path(label, value) {
  const line = node('p', 'geko-path');
  const button = node('button', '', 'Copy');
  button.type = 'button';
  button.onclick = () => { navigator.clipboard?.writeText(value); button.textContent = 'Copied'; };
  line.append(node('span', '', label), node('code', '', value), button);
  return line;
}

function drawLog(lines) {
  const key = lines.length + (lines.at(-1) || []).join();
  if (key === logged) return;
  logged = key;
  q('.geko-log ol').replaceChildren(...lines.map(([at, level, what]) => { const line = node('li', level); line.append(node('time', '', at), node('span', '', what)); return line; }));
}

function drawStatus(data) {
  const bar = q('.geko-status');
  bar.dataset.phase = data.phase;
  text(q('.s-title'), data.status.title);
  text(q('.s-detail'), data.status.detail);
  text(q('.s-life'), data.status.life);
  q('.b-start').hidden = data.running;
  q('.b-stop').hidden = !data.running;
  q('.b-resume').hidden = !data.resumable;
  q('.b-clear').hidden = data.running || !data.run;
  q('.geko-progress span').style.width = (100 * data.progress) + '%';
  q('.geko-progress').setAttribute('aria-valuenow', Math.round(100 * data.progress));
  const start = document.getElementById('geko-start');
  if (start) start.disabled = data.running;
  q('.geko-live').hidden = !data.run;
  q('.geko-empty').hidden = !!data.run;
}

async function show(data) {
  drawStatus(data);
  if (!data.run) { run = null; return; }
  drawStats(data.stats);
  drawBars(data.buckets);
  drawSummary(data.summary);
  drawLog(data.log);
  text(q('.s-compute'), data.compute);
  text(q('.geko-settings'), data.settings);
  if (data.run !== run || data.generation !== generation || data.since !== since) {
    await restart(data);
    if (data.since !== 0) return;  // those points continue another history: ask for all of it
  }
  await extend(data);
}

async function poll() {
  if (!element.isConnected || busy) return;
  busy = true;  // two polls in flight would draw the same points twice
  let wait = 3000;
  if (document.visibilityState === 'visible') {
    try {
      if (!window.Plotly) throw new Error('plotly is still loading');
      if (!figures) figures = await server.figures({});
      await retheme_if_drawn();
      const data = await server.pull({ run, since, generation, cleared: stored('geko-cleared') });
      await show(data);
      wait = data.running ? 500 : 1500;
    } catch (error) {
      if (window.Plotly) text(q('.s-life'), 'connection lost, trying again');
      wait = window.Plotly ? 2000 : 100;
    }
  }
  busy = false;
  clearTimeout(timer);
  timer = setTimeout(poll, wait);
}

const retheme_if_drawn = () => (run ? retheme() : Promise.resolve());

async function act(name, argument) {
  const answer = await server[name](argument);
  q('.geko-error').hidden = !answer.error;
  text(q('.geko-error'), answer.error || '');
  clearTimeout(timer);
  poll();
}

q('.b-stop').onclick = () => { q('.b-stop').disabled = true; act('stop', { run }).finally(() => { setTimeout(() => { q('.b-stop').disabled = false; }, 3000); }); };
q('.b-start').onclick = () => document.getElementById('geko-start').click();
q('.b-resume').onclick = () => act('resume', { run });
q('.b-clear').onclick = () => { store('geko-cleared', run); clearTimeout(timer); poll(); };
document.addEventListener('visibilitychange', () => { if (document.visibilityState === 'visible') { clearTimeout(timer); poll(); } });
document.addEventListener('click', (event) => {
  if (event.target.closest('#geko-start')) { clearTimeout(timer); timer = setTimeout(poll, 300); }
  if (event.target.closest('#geko-theme')) {
    document.body.classList.toggle('dark');
    store('geko-theme', theme());
    if (run) retheme();
  }
});
poll();
