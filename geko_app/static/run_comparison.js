// The chosen runs over one another: one chart, their figures, and where their settings differ.
const AXES = { steps: 'Steps', tokens: 'Trained tokens', seconds: 'Seconds' };
// Nothing is sent anywhere: Plotly's own button would upload the chart.
const NO_BUTTONS = ['select2d', 'lasso2d', 'sendChartToCloud'];
const plotConfig = { responsive: true, displaylogo: false, plotlyServerURL: '', showSendToCloud: false, modeBarButtonsToRemove: NO_BUTTONS };
const curves = new Map();  // id -> {key, name, curve}
let chosen = [], axis = kept('geko-axis') in AXES ? kept('geko-axis') : 'steps', chart = null, drawn = '';
try { chosen = JSON.parse(kept('geko-chosen') || '[]'); } catch { chosen = []; }

function traces(id, colour) {
  const { name, curve } = curves.get(id), line = { color: colour };
  return [
    {
      uid: id + '-train', x: curve[axis], y: curve.train, mode: 'lines', name, legendgroup: id, showlegend: false, opacity: 0.55,
      line: { ...line, width: 1.2 }, hovertemplate: name + '<br>smoothed training loss %{y:.3f}<extra></extra>',
    },
    {
      uid: id + '-eval', x: curve['eval_' + axis], y: curve.eval, mode: 'lines+markers', name, legendgroup: id, cliponaxis: false,
      line: { ...line, width: 2.2 }, marker: { size: 7, color: colour }, hovertemplate: name + '<br>evaluation loss %{y:.3f}<extra></extra>',
    },
  ];
}

async function draw() {
  const shown = chosen.filter((id) => curves.has(id)), look = chart[theme()];
  const key = [theme(), axis, ...shown.map((id) => id + curves.get(id).key)].join();
  if (key === drawn) return;
  drawn = key;
  const layout = structuredClone(look.layout);
  layout.uirevision = axis;  // the zoom stays when points come, and goes with another axis
  layout.xaxis.title.text = chart.axes[axis];
  const narrow = q('.p-chart').clientWidth < 600;  // there every run has a line of its own in the legend
  if (narrow) layout.height = 320 + 29 * shown.length;
  await Plotly.react(q('.p-chart'), shown.flatMap((id, i) => traces(id, look.colours[i])), layout, plotConfig);
}

function table(place, names, lines) {
  const key = JSON.stringify([names, lines]);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const head = node('thead'), first = node('tr'), body = node('tbody');
  first.append(node('td', ''), ...names.map((name, i) => {
    const cell = node('th', '', name);
    cell.scope = 'col';
    cell.style.setProperty('--run', `var(--g-run-${i + 1})`);
    return cell;
  }));
  head.append(first);
  for (const [label, ...values] of lines) {
    const line = node('tr'), title = node('th', '', label);
    title.scope = 'row';
    line.append(title, ...values.map((value) => node('td', '', value)));
    body.append(line);
  }
  place.replaceChildren(head, body);
}

function settings(names, differences) {
  q('.p-settings').hidden = names.length < 2;
  text(q('.p-same'), differences.length ? 'Everything that is not listed is the same.' : 'Nothing: their configurations are the same.');
  q('.p-differences').hidden = !differences.length;
  table(q('.p-differences'), names, differences);
}

function axes() {
  q('.p-axes').replaceChildren(...Object.entries(AXES).map(([key, label]) => {
    const made = button(label, '', () => { axis = key; kept('geko-axis', key); axes(); draw(); });
    made.setAttribute('aria-pressed', String(key === axis));
    return made;
  }));
}

const again = asking(async () => {
  q('.p-compare').hidden = !chosen.length;
  if (!chosen.length) return 3000;
  if (!window.Plotly) return 100;
  if (!chart) { chart = await server.chart({}); axes(); }
  const asked = chosen, had = Object.fromEntries([...curves].map(([id, known]) => [id, known.key]));
  const data = await server.curves({ runs: asked, had });
  if (asked !== chosen) return 0;
  for (const run of data.runs) if (run.curve) curves.set(run.id, run);
  for (const id of curves.keys()) if (!chosen.includes(id)) curves.delete(id);
  chosen = data.runs.map((run) => run.id);
  const names = data.runs.map((run) => run.name);
  table(q('.p-figures'), names, data.figures);
  settings(names, data.differences);
  q('.p-control').hidden = !data.control;
  text(q('.p-control'), data.control);
  await draw();
  return data.going ? 1500 : 3000;
}, () => {});

window.addEventListener('geko-chosen', (event) => { chosen = event.detail; again(0); });
q('.p-none').onclick = () => tell('geko-choose-none');
