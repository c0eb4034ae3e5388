// The charts of the dashboard: one for each `<div data-chart>`, extended with what is new.

import { localSetting, theme } from './dom.js';
import { PLOT_CONFIG } from './plots.js';

const POINTS_HELD = 3000; // beyond, the whole history is asked for again, thinned by the server
const FEW_MARKERS = 60;
const DEFAULT_AXIS = 'step';
const ROOM = 1.08; // the loss axis ends so much above the highest value that it must show
const TOLERANCE = 0.02;

/**
 * Values by the name of their column.
 * @typedef {Record<string, (number | null)[]>} Columns
 *
 * The server's charts, empty, by name; each trace names its column in `meta`, as "points.loss".
 * @typedef {object} Figures
 * @property {Record<string, Record<'light' | 'dark', PlotlyFigure>>} charts
 * @property {Record<string, string>} axes title of each axis, by the column that it shows
 *
 * @typedef {object} Cursor
 * @property {number} generation
 * @property {number} points
 * @property {number} evaluations
 * @property {number} log
 * @property {number} answers
 *
 * What came after the cursor `had`.
 * @typedef {object} News
 * @property {Cursor} had
 * @property {Cursor} next
 * @property {Columns} points
 * @property {Columns} evaluations
 */

export class Charts {
  /**
   * @param {HTMLElement} root
   * @param {Figures} figures
   */
  constructor(root, figures) {
    this.figures = figures;
    const found = /** @type {NodeListOf<PlotlyChart>} */ (root.querySelectorAll('[data-chart]'));
    this.charts = new Map([...found].map((chart) => [chart.dataset.chart ?? '', chart]));
    const axis = localSetting('geko-axis');
    this.axis = axis in figures.axes ? axis : DEFAULT_AXIS;
    this.logarithmic = localSetting('geko-log') === 'yes';
    this.held = 0;
    this.stale = true; // the charts have to be drawn anew, with the whole history
    /** @type {string | null} */
    this.drawnTheme = null;
    this.phases = '';
    this.top = 0; // of the loss axis, as it was set here; 0: not set
  }

  /** @param {string} axis */
  setAxis(axis) {
    this.axis = axis;
    localSetting('geko-axis', axis);
    this.stale = true;
  }

  toggleLogarithmic() {
    this.logarithmic = !this.logarithmic;
    localSetting('geko-log', this.logarithmic ? 'yes' : 'no');
    this.stale = true;
  }

  /** Draws all charts, without data. */
  async draw() {
    this.drawnTheme = theme();
    this.held = 0;
    this.phases = '';
    this.top = 0;
    this.stale = false;
    for (const [name, chart] of this.charts) {
      const { data, layout } = structuredClone(this.figures.charts[name][theme()]);
      layout.xaxis.title.text = this.figures.axes[this.axis];
      if (name === 'loss' && this.logarithmic) layout.yaxis.type = 'log';
      await Plotly.newPlot(chart, data, layout, PLOT_CONFIG);
    }
  }

  /**
   * Shows or hides the card of a chart. What is drawn while it is hidden has no width of its own yet.
   * @param {string} name
   * @param {boolean} isShown
   */
  async show(name, isShown) {
    const chart = this.charts.get(name);
    const card = /** @type {HTMLElement | null} */ (chart?.closest('.geko-card') ?? null);
    if (!chart || !card || card.hidden === !isShown) return;
    card.hidden = !isShown;
    if (isShown) await Plotly.relayout(chart, { autosize: true });
  }

  /** Takes on the theme of the page; zoom and data stay. */
  async applyTheme() {
    if (this.drawnTheme === null || this.drawnTheme === theme()) return;
    this.drawnTheme = theme();
    for (const [name, chart] of this.charts) {
      const { layout, data } = this.figures.charts[name][theme()];
      await Plotly.relayout(chart, {
        'font.color': layout.font.color,
        'hoverlabel.bgcolor': layout.hoverlabel.bgcolor,
        'xaxis.gridcolor': layout.xaxis.gridcolor,
        'yaxis.gridcolor': layout.yaxis.gridcolor,
      });
      await Plotly.restyle(chart, {
        'line.color': data.map((trace) => trace.line?.color),
        'marker.color': data.map((trace) => trace.marker?.color ?? trace.line?.color),
      });
    }
  }

  /**
   * Draws what is new, and answers with the cursor for the next question.
   * @param {News} news
   * @returns {Promise<Cursor>}
   */
  async update({ had, next, points, evaluations }) {
    const count = points[this.axis].length;
    const wholePoints = had.points === 0 && this.held + count > 0;
    const wholeEvaluations = had.evaluations === 0 && (wholePoints || evaluations[this.axis].length > 0);
    for (const chart of this.charts.values()) {
      await this.put(chart, 'points', points, wholePoints);
      await this.put(chart, 'evaluations', evaluations, wholeEvaluations);
    }
    await this.fitLoss();
    this.held = wholePoints ? count : this.held + count;
    return this.held > POINTS_HELD ? { ...next, points: 0, evaluations: 0 } : next;
  }

  /**
   * A whole history replaces the data of the traces, later points extend it. Both leave zoom and layout alone.
   * @param {PlotlyChart} chart
   * @param {string} source
   * @param {Columns} columns
   * @param {boolean} whole
   */
  async put(chart, source, columns, whole) {
    const x = columns[this.axis];
    const traces = chart.data.flatMap((trace, i) => (trace.meta?.startsWith(`${source}.`) ? [i] : []));
    if (!traces.length || (!whole && !x.length)) return;
    const y = traces.map((i) => columns[String(chart.data[i].meta).slice(source.length + 1)]);
    /** @type {Record<string, unknown>} */
    const data = { x: traces.map(() => x), y };
    if (whole && source === 'evaluations') data['marker.size'] = x.length > FEW_MARKERS ? 3 : 8; // or they make a band
    await (whole ? Plotly.restyle(chart, data, traces) : Plotly.extendTraces(chart, data, traces));
  }

  /**
   * Ends the loss axis above the smoothed and the evaluation curve: the spikes of single steps would flatten both.
   * An axis that the user has changed stays, until a double click gives it back.
   */
  async fitLoss() {
    const chart = this.charts.get('loss');
    if (!chart || this.logarithmic) return;
    const curves = chart.data.filter((trace) => trace.meta !== 'points.loss');
    const values = curves.flatMap((trace) => /** @type {(number | null)[]} */ ([...trace.y]));
    const highest = Math.max(0, ...values.filter((value) => value !== null));
    const { range, autorange } = chart.layout.yaxis;
    const isOwn = autorange || !this.top || Math.abs(range[1] - this.top) < TOLERANCE * this.top;
    const top = highest * ROOM;
    if (!highest || !isOwn || (!autorange && Math.abs(top - this.top) < TOLERANCE * this.top)) return;
    this.top = top;
    await Plotly.relayout(chart, { 'yaxis.range': [0, top] });
  }

  /**
   * Marks the curriculum's phases in the chart of the learning rate, each from its first step on.
   * @param {[string, number][]} phases
   * @param {number} last step of the run so far
   */
  async drawPhases(phases, last) {
    const chart = this.charts.get('pace');
    const shown = this.axis === DEFAULT_AXIS ? phases : [];
    const key = JSON.stringify([shown, shown.length && last, theme()]);
    if (!chart || this.phases === key) return;
    this.phases = key;
    const line = { color: this.figures.charts.pace[theme()].layout.font.color, width: 1, dash: 'dot' };
    const border = { type: 'line', xref: 'x', yref: 'paper', y0: 0, y1: 1, opacity: 0.35, line };
    const label = { y: 1, yref: 'paper', yanchor: 'bottom', showarrow: false, font: { size: 11 } };
    await Plotly.relayout(chart, {
      shapes: shown.slice(1).map(([, begin]) => ({ ...border, x0: begin, x1: begin })),
      annotations: shown.map(([text, begin], i) => ({ ...label, text, x: (begin + (shown[i + 1]?.[1] ?? last)) / 2 })),
    });
  }

  /**
   * The data of a chart as CSV.
   * @param {string} name
   */
  csv(name) {
    const drawn = this.charts.get(name)?.data ?? [];
    const data = drawn.filter((trace) => [...trace.y].some((value) => value !== null)); // what was not measured is no column
    const xs = [...new Set(data.flatMap((trace) => [.../** @type {number[]} */ (trace.x)]))].sort((a, b) => a - b);
    const columns = data.map((trace) => new Map([...trace.x].map((x, i) => [x, trace.y[i]])));
    const lines = xs.map((x) => [x, ...columns.map((column) => column.get(x) ?? '')].join(','));
    const head = [this.figures.axes[this.axis], ...data.map((trace) => trace.name)].join(',');
    return `${[head, ...lines].join('\n')}\n`;
  }

  /**
   * Lets the browser save a chart as a picture.
   * @param {string} name
   * @param {string} filename
   */
  async savePicture(name, filename) {
    const chart = this.charts.get(name);
    if (chart) await Plotly.downloadImage(chart, { format: 'png', scale: 2, filename });
  }
}
