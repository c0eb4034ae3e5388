// The chosen runs side by side: their curves in one chart, their figures, and where their settings differ.

import { button, node, sessionSetting, setText, theme, View } from './dom.js';
import { PLOT_CONFIG } from './plots.js';
import { pollWhileVisible } from './poll.js';
import { chosenRuns, isComparing, showComparison } from './runs_selection.js';

/**
 * @typedef {import('./dashboard_charts.js').Columns} Columns
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {string} name
 * @property {string} key changes with the curve
 * @property {{points: Columns, evaluations: Columns} | null} curve null: the one that this tab has
 *
 * @typedef {object} Look
 * @property {Record<string, any>} layout
 * @property {string[]} colors
 *
 * @typedef {Record<'light' | 'dark', Look> & {axes: Record<string, string>}} Chart
 *
 * @typedef {object} Comparison
 * @property {Run[]} runs
 * @property {string[][]} figures label and one value for each run
 * @property {string[][]} differences
 * @property {string[]} sentences
 * @property {boolean} going
 */

const DEFAULT_AXIS = 'step';
const NARROW = 600; // pixels: below, each run has a line of its own in the legend
const LEGEND_LINE = 29;

class RunComparison extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    /** @type {Map<string, Run>} */
    this.runs = new Map();
    this.chosen = chosenRuns();
    this.isShown = isComparing();
    this.axis = sessionSetting('geko-axis') || DEFAULT_AXIS;
    /** @type {Chart | null} */
    this.chart = null;
    this.drawn = '';
    this.q('.p-back').onclick = () => showComparison(false);
    const schedulePoll = pollWhileVisible(
      this.element,
      () => this.poll(),
      () => {}, // the list of runs above says that the connection is lost
    );
    window.addEventListener('geko-compare', ({ detail }) => {
      this.isShown = detail;
      this.showIt();
      if (detail) this.q('.p-compare').focus();
      schedulePoll();
    });
    window.addEventListener('geko-theme', () => schedulePoll());
    window.addEventListener('geko-chosen', ({ detail }) => {
      this.chosen = detail;
      schedulePoll();
    });
  }

  async poll() {
    this.showIt();
    if (!this.isShown) return 3000;
    if (!window.Plotly) return 100;
    if (!this.chart) {
      /** @type {Chart} */
      const chart = await this.server.chart({});
      this.chart = chart;
      if (!(this.axis in chart.axes)) this.axis = DEFAULT_AXIS;
      this.drawAxes(chart);
    }
    const { chosen } = this;
    const drawn = Object.fromEntries([...this.runs].map(([id, run]) => [id, run.key]));
    /** @type {Comparison} */
    const data = await this.server.curves({ runs: chosen, drawn });
    if (chosen !== this.chosen) return 0;
    await this.show(data, this.chart);
    return data.going ? 1500 : 3000;
  }

  /** Without a run to show, it is the list that is shown. */
  showIt() {
    if (this.isShown && !this.chosen.length) showComparison(false);
    this.q('.p-compare').hidden = !this.isShown;
  }

  /**
   * @param {Comparison} data
   * @param {Chart} chart
   */
  async show(data, chart) {
    for (const run of data.runs) if (run.curve) this.runs.set(run.id, run);
    for (const id of this.runs.keys()) if (!this.chosen.includes(id)) this.runs.delete(id);
    this.chosen = data.runs.map((run) => run.id);
    const names = data.runs.map((run) => run.name);
    drawTable(this.q('.p-figures'), names, data.figures);
    this.drawDifferences(names, data.differences);
    this.q('.p-control').hidden = !data.sentences.length;
    this.q('.p-control').replaceChildren(...data.sentences.map((sentence) => node('p', '', sentence)));
    await this.draw(chart);
  }

  /** @param {Chart} chart */
  async draw(chart) {
    const shown = this.chosen.flatMap((id) => this.runs.get(id) ?? []);
    const { layout: base, colors } = chart[theme()];
    const key = [theme(), this.axis, ...shown.map((run) => run.id + run.key)].join();
    if (key === this.drawn) return;
    this.drawn = key;
    const layout = structuredClone(base);
    layout.uirevision = this.axis; // the zoom stays when points come, and goes with another axis
    layout.xaxis.title.text = chart.axes[this.axis];
    const target = this.q('.p-chart');
    if (target.clientWidth < NARROW) layout.height = 320 + LEGEND_LINE * shown.length;
    const traces = shown.flatMap((run, i) => runTraces(run, this.axis, colors[i]));
    await Plotly.react(target, traces, layout, PLOT_CONFIG);
  }

  /** @param {Chart} chart */
  drawAxes(chart) {
    const buttons = Object.entries(chart.axes).map(([key, label]) => {
      const made = button(capitalized(label), '', () => {
        this.axis = key;
        sessionSetting('geko-axis', key);
        this.drawAxes(chart);
        this.draw(chart);
      });
      made.setAttribute('aria-pressed', String(key === this.axis));
      return made;
    });
    this.q('.p-axes').replaceChildren(...buttons);
  }

  /**
   * @param {string[]} names
   * @param {string[][]} differences
   */
  drawDifferences(names, differences) {
    this.q('.p-settings').hidden = names.length < 2;
    const sentence = differences.length ? 'All other settings are the same.' : 'None: all settings are the same.';
    setText(this.q('.p-same'), sentence);
    this.q('.p-differences').hidden = !differences.length;
    drawTable(this.q('.p-differences'), names, differences);
  }
}

/**
 * @param {Run} run
 * @param {string} axis
 * @param {string} color
 */
function runTraces({ id, name, curve }, axis, color) {
  if (!curve) return [];
  const { points, evaluations } = curve;
  const common = { name, legendgroup: id };
  return [
    {
      ...common,
      uid: `${id}-train`,
      x: points[axis],
      y: points.smoothed,
      mode: 'lines',
      showlegend: false,
      opacity: 0.55,
      line: { color, width: 1.2 },
      hovertemplate: `${name}<br>smoothed training loss %{y:.3f}<extra></extra>`,
    },
    {
      ...common,
      uid: `${id}-eval`,
      x: evaluations[axis],
      y: evaluations.loss,
      mode: 'lines+markers',
      cliponaxis: false,
      line: { color, width: 2.2 },
      marker: { size: 7, color },
      hovertemplate: `${name}<br>evaluation loss %{y:.3f}<extra></extra>`,
    },
  ];
}

/**
 * A table with one column for each run.
 * @param {HTMLElement} target
 * @param {string[]} names
 * @param {string[][]} lines label and one value for each run
 */
function drawTable(target, names, lines) {
  const key = JSON.stringify([names, lines]);
  if (target.dataset.key === key) return;
  target.dataset.key = key;
  const heads = names.map((name, i) => {
    const cell = node('th', '', name);
    cell.scope = 'col';
    cell.style.setProperty('--run', `var(--g-run-${i + 1})`);
    return cell;
  });
  const first = node('tr');
  first.append(node('td', ''), ...heads);
  const head = node('thead');
  head.append(first);
  const body = node('tbody');
  for (const [label, ...values] of lines) {
    const title = node('th', '', label);
    title.scope = 'row';
    const line = node('tr');
    line.append(title, ...values.map((value) => node('td', '', value)));
    body.append(line);
  }
  target.replaceChildren(head, body);
}

/** @param {string} label */
function capitalized(label) {
  return label[0].toUpperCase() + label.slice(1);
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new RunComparison(part);
}
