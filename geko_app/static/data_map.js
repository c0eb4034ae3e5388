// The map of the data: a scatter chart with one point for each sample.

import { setText, theme } from './dom.js';

const PLOT_CONFIG = { responsive: true, displayModeBar: false }; // a drag zooms, a double click shows all again

/**
 * @typedef {Record<'light' | 'dark', PlotlyFigure>} MapFigure
 *
 * @typedef {object} MapData
 * @property {{id: number[], x: number[], y: number[]}[]} traces one for each bucket
 * @property {string} note
 */

export class DataMap {
  /**
   * @param {HTMLElement} chart
   * @param {HTMLElement} note
   * @param {() => Promise<MapFigure>} loadFigure
   * @param {(id: number) => void} onOpen
   */
  constructor(chart, note, loadFigure, onOpen) {
    this.chart = /** @type {PlotlyChart} */ (chart);
    this.note = note;
    this.loadFigure = loadFigure;
    this.onOpen = onOpen;
    /** @type {MapFigure | null} */
    this.figure = null;
    /** @type {MapData | null} */
    this.data = null;
    this.version = '';
    this.drawn = '';
  }

  /**
   * @param {string} version of the record that the points are from; "" with null
   * @param {MapData | null} data
   */
  setData(version, data) {
    this.version = version;
    this.data = data;
    if (!data) this.drawn = '';
  }

  async draw() {
    if (!this.data || !window.Plotly) return;
    const points = this.data.traces;
    const isEmpty = points.every((trace) => !trace.id.length);
    this.chart.hidden = isEmpty;
    setText(this.note, this.data.note);
    const key = `${this.version} ${theme()}`;
    if (isEmpty || this.drawn === key || !this.chart.offsetParent) return; // Plotly needs a size to draw
    this.drawn = key;
    this.figure ??= await this.loadFigure();
    const { data, layout } = structuredClone(this.figure[theme()]);
    layout.height = undefined; // as high as its panel
    layout.autosize = true;
    const traces = data.map((trace, i) => {
      const { x, y, id } = points[i];
      return { ...trace, type: scatterType(), x, y, customdata: id };
    });
    await Plotly.react(this.chart, traces, layout, PLOT_CONFIG);
    if (this.chart.dataset.wired) return;
    this.chart.dataset.wired = 'yes';
    this.chart.on('plotly_click', (event) => this.onOpen(event.points[0].customdata));
  }
}

/** @type {boolean | null} */
let hasWebGL = null;

/** Without WebGL the points are drawn as SVG. */
function scatterType() {
  if (hasWebGL === null) {
    try {
      hasWebGL = Boolean(document.createElement('canvas').getContext('webgl'));
    } catch {
      hasWebGL = false;
    }
  }
  return hasWebGL ? 'scattergl' : 'scatter';
}
