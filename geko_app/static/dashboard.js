// The dashboard of the Train page: asks the server for what came after its cursor, and draws it.
// Holds nothing that the server does not know, but which run this tab shows and how its charts are drawn.

import { AnswersCard } from './dashboard_answers.js';
import { Charts } from './dashboard_charts.js';
import { drawBars, drawLog, drawStats } from './dashboard_cards.js';
import { drawSummary } from './dashboard_summary.js';
import { drawUsage } from './dashboard_usage.js';
import { downloadText, localSetting, node, SERVER_UNREACHABLE, sessionSetting, setText, View } from './dom.js';
import { ExportPanel } from './export_panel.js';
import { clearFieldErrors, showFieldErrors } from './form_errors.js';
import { translate } from './language.js';
import { pollWhileVisible } from './poll.js';

/**
 * What is known of every poll, whether there is a run or not.
 * @typedef {object} Status
 * @property {string | null} run
 * @property {string | null} active the run that is being trained, the one that began last if there are several
 * @property {string[]} all_active
 * @property {string} phase
 * @property {boolean} running
 * @property {boolean} queued
 * @property {boolean} stopping
 * @property {boolean} resumable
 * @property {number} progress
 * @property {string} waiting
 * @property {import('./dashboard_usage.js').Usage[]} [usage] what the run takes of this computer
 * @property {string} field the setting that a failed run failed on, and its group of the form
 * @property {string} group
 * @property {string} reason
 * @property {string} settings
 * @property {{title: string, detail: string, life: string}} status
 * @property {import('./dashboard_summary.js').Summary | null} summary
 * @property {number} step
 *
 * What is known of a run.
 * @typedef {Status & import('./dashboard_charts.js').News & {
 *   run: string,
 *   log: [string, string, string][],
 *   stats: import('./dashboard_cards.js').Stat[],
 *   buckets: import('./dashboard_cards.js').BucketRow[],
 *   compute: string,
 *   mastery: string,
 *   pace: string,
 *   length: string,
 *   general: boolean,
 *   charts: Record<string, boolean>,
 *   phases: [string, number][],
 *   answers: import('./dashboard_answers.js').Answers | null,
 * }} RunNews
 */

const START = { generation: 0, points: 0, evaluations: 0, log: 0, answers: 0 };

class Dashboard extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    /** @type {string | null} the run whose history is drawn */
    this.run = null;
    /** @type {string | null} the run that the buttons act on */
    this.buttonsRun = null;
    /** @type {string[] | undefined} the runs that were being trained; undefined: not asked yet */
    this.active = undefined;
    /** @type {string | null} a run that this tab saw running, whose failure it shows at the field */
    this.watched = null;
    /** @type {string | null | undefined} */
    this.runAtStart = undefined;
    /** @type {string | null} a run that this tab saw running, whose end it announces */
    this.followed = null;
    this.stopping = false;
    this.listed = '';
    this.cursor = START;
    /** @type {Charts | null} */
    this.charts = null;
    this.exports = new ExportPanel(this);
    /** @type {import('./dashboard_summary.js').Partner} the run to compare with */
    this.partner = { run: '', end: '' };
    this.answers = new AnswersCard(this.q('.geko-answers'));
    this.wireButtons();
    this.wireCharts();
    document.addEventListener('click', (event) => {
      if (event.target instanceof Element && event.target.closest('#geko-start')) this.onStart();
    });
    window.addEventListener('geko-theme', () => this.schedulePoll());
    window.addEventListener('geko-runs-changed', () => {
      this.listed = ''; // a run has another name
      this.schedulePoll();
    });
    this.schedulePoll = pollWhileVisible(
      this.element,
      () => this.poll(),
      () => this.showConnectionLost('.s-life'),
    );
  }

  // ---------------------------------------------------------------- buttons

  wireButtons() {
    const stop = this.button('.b-stop');
    stop.onclick = () => {
      stop.disabled = true;
      this.act('stop', { now: this.stopping });
    };
    this.q('.b-start').onclick = () => document.getElementById('geko-start')?.click();
    this.q('.b-resume').onclick = () => this.act('resume');
    this.q('.b-clear').onclick = () => {
      localSetting('geko-cleared', this.buttonsRun ?? '');
      clearFieldErrors();
      this.showRun('');
    };
    this.q('.b-notify').onclick = async () => {
      await Notification.requestPermission();
      this.schedulePoll();
    };
    const picker = this.select('.geko-runs');
    picker.onchange = () => {
      if (picker.value) this.showRun(picker.value);
    };
  }

  wireCharts() {
    const axis = this.select('.t-axis');
    axis.onchange = () => {
      this.charts?.setAxis(axis.value);
      this.schedulePoll();
    };
    this.q('.t-log').onclick = () => {
      this.charts?.toggleLogarithmic();
      this.drawTools();
      this.schedulePoll();
    };
    for (const button of this.element.querySelectorAll('button')) {
      const { csv, png } = button.dataset;
      if (csv) button.onclick = () => downloadText(`${this.run}-${csv}.csv`, this.charts?.csv(csv) ?? '', 'text/csv');
      if (png) button.onclick = () => this.charts?.savePicture(png, `${this.run}-${png}`);
    }
  }

  onStart() {
    clearFieldErrors();
    this.runAtStart = this.run;
    this.showError('.geko-error', '');
    this.showRun('');
  }

  /** @param {string} id "" for the newest one */
  showRun(id) {
    sessionSetting('geko-shown', id);
    this.schedulePoll();
  }

  /**
   * @param {string} name
   * @param {object} [more]
   */
  async act(name, more) {
    let error = SERVER_UNREACHABLE;
    try {
      ({ error } = await this.server[name]({ run: this.buttonsRun, ...more }));
    } catch {
      // The sentence is there already.
    }
    this.showError('.geko-error', error);
    this.schedulePoll();
  }

  // ---------------------------------------------------------------- the loop

  async poll() {
    if (!window.Plotly) return 100;
    if (!this.charts) {
      this.charts = new Charts(this.element, await this.server.figures({}));
      this.drawTools();
    }
    await this.charts.applyTheme();
    if (this.charts.stale) this.cursor = { ...this.cursor, points: 0, evaluations: 0 };
    const data = await this.server.pull({
      run: this.run,
      cursor: this.cursor,
      shown: sessionSetting('geko-shown'),
      cleared: localSetting('geko-cleared'),
    });
    return (await this.show(data, this.charts)) ? (data.active ? 500 : 1500) : 0;
  }

  /**
   * Draws an answer; false when it has to be asked for anew.
   * @param {Status | RunNews} data
   * @param {Charts} charts
   */
  async show(data, charts) {
    const begun = data.active && this.active && !this.active.includes(data.active);
    this.active = data.all_active;
    if (begun && data.run !== data.active) {
      sessionSetting('geko-shown', ''); // every tab turns to a run that has begun
      return false;
    }
    // With several at work, the end of the one that is shown is no reason to turn to another.
    if (data.all_active.length > 1 && data.run) sessionSetting('geko-shown', data.run);
    this.drawStatus(data);
    await this.showFailure(data);
    await this.drawRuns(data);
    if (isRunNews(data)) return this.drawRun(data, charts);
    this.run = null;
    return true;
  }

  /**
   * @param {RunNews} data
   * @param {Charts} charts
   */
  async drawRun(data, charts) {
    const isNew = data.run !== this.run;
    if (charts.stale && data.had.points && !isNew) return false; // the axis was changed while this was asked for
    this.run = data.run;
    drawStats(this.q('.geko-stats'), data.stats);
    drawBars(this.q('.geko-bars'), data.buckets);
    this.drawEnd(data);
    drawLog(this.q('.geko-log ol'), data.log, isNew);
    setText(this.q('.s-compute'), data.compute);
    setText(this.q('.s-mastery'), data.mastery);
    setText(this.q('.s-pace'), data.pace);
    setText(this.q('.s-length'), data.length);
    this.q('.geko-key .general').hidden = !data.general;
    if (isNew || data.answers) this.answers.show(data.answers ?? { rounds: [], prompts: [] });
    this.cursor = { ...this.cursor, log: data.next.log, answers: data.next.answers };
    if (isNew || charts.stale) await charts.draw();
    for (const [name, has] of Object.entries(data.charts)) await charts.show(name, has);
    this.cursor = await charts.update(data);
    await charts.drawPhases(data.phases, data.step);
    return true;
  }

  /** @param {RunNews} data */
  drawEnd(data) {
    drawSummary(this.q('.geko-summary'), data.summary, {
      run: data.run,
      partner: this.partner,
      start: (name) => this.act('variant', { name }),
      showExport: () => this.exports.focus(),
      showPush: () => this.exports.openHub(),
    });
    this.exports.show(data.summary ? data.run : '');
  }

  /**
   * Finds the run to compare with, when another run is shown or one has come to its end.
   * @param {Status} data
   */
  async findPartner(data) {
    const { run } = data;
    this.partner = { run: '', end: '' };
    if (!run || !data.summary) return;
    const found = await this.server.partner({ run });
    if (run === this.buttonsRun) this.partner = found ?? { run: '', end: '' };
  }

  // ---------------------------------------------------------------- everything but the charts

  /** @param {Status} data */
  drawStatus(data) {
    this.buttonsRun = data.run; // from now on, whatever else is still to be drawn
    const status = this.q('.geko-status');
    status.dataset.phase = data.stopping ? 'stopping' : data.phase;
    status.classList.toggle('running', data.running);
    setText(this.q('.s-title'), data.status.title);
    setText(this.q('.s-detail'), data.status.detail);
    setText(this.q('.s-life'), data.status.life);
    setText(this.q('.b-start'), data.active ? 'Start another' : 'Start');
    this.q('.b-start').classList.toggle('next', Boolean(data.active));
    this.q('.b-stop').hidden = !data.running && !data.queued;
    setText(this.q('.b-stop'), data.stopping ? 'End now' : 'Stop');
    this.button('.b-stop').disabled = data.stopping && !this.stopping; // the second click of a double click is no wish
    this.stopping = data.stopping;
    this.q('.b-resume').hidden = !data.resumable;
    this.q('.b-clear').hidden = data.running || data.queued || !data.run;
    this.q('.geko-progress span').style.width = `${100 * data.progress}%`;
    this.q('.geko-progress').setAttribute('aria-valuenow', String(Math.round(100 * data.progress)));
    this.q('.geko-live').hidden = !data.run;
    // There are no curves where nothing was trained.
    this.q('.geko-live').classList.toggle('untrained', Boolean(data.summary) && !data.step);
    this.q('.geko-empty').hidden = Boolean(data.run);
    setText(this.q('.geko-settings'), data.settings ?? '');
    setText(this.q('.s-waiting'), data.waiting);
    drawUsage(this.q('.geko-usage'), data.usage ?? []);
    this.drawAttention(data);
  }

  /**
   * What is seen while another tab is in front: the title of this one, and a notification once the run has ended.
   * @param {Status} data
   */
  drawAttention(data) {
    document.title = data.running ? `${Math.round(100 * data.progress)} % · ${data.status.title} · GEKO` : 'GEKO';
    const asked = 'Notification' in window ? Notification.permission : 'denied';
    this.q('.b-notify').hidden = !data.running || asked !== 'default';
    if (data.running) {
      this.followed = data.run;
    } else if (this.followed && this.followed === data.run) {
      this.followed = null;
      if (asked === 'granted') {
        const { title, detail } = data.status;
        new Notification(`GEKO: ${translate(title)}`, { body: translate(detail) });
      }
    }
  }

  drawTools() {
    if (!this.charts) return;
    this.select('.t-axis').value = this.charts.axis;
    this.q('.t-log').setAttribute('aria-pressed', String(this.charts.logarithmic));
  }

  /**
   * A failure of yesterday says nothing about the form of today: only runs that this tab saw mark a field.
   * @param {Status} data
   */
  async showFailure(data) {
    if (data.running || (this.runAtStart !== undefined && data.run !== this.runAtStart)) this.watched = data.run;
    if (data.phase !== 'failed' || !data.group || this.watched !== data.run) return;
    this.watched = null;
    await showFieldErrors([{ key: data.field, group: data.group, reason: data.reason }]);
  }

  /** @param {Status} data */
  async drawRuns(data) {
    const key = [data.run, data.phase, ...data.all_active].join();
    if (key === this.listed) return;
    this.listed = key;
    await this.findPartner(data);
    const runs = /** @type {[string, string][]} */ (await this.server.runs({})) ?? [];
    const picker = this.select('.geko-runs');
    const none = new Option(runs.length ? 'Earlier runs' : 'No runs yet', '');
    const options = runs.map(([id, label]) => new Option(label, id));
    picker.replaceChildren(...(data.run ? [] : [none]), ...inGroups(options, data.all_active));
    picker.value = data.run ?? '';
    picker.hidden = !runs.length;
  }
}

/**
 * The options of the runs; where several are at work, these stand first, below a heading.
 * @param {HTMLOptionElement[]} options
 * @param {string[]} active
 * @returns {HTMLElement[]}
 */
function inGroups(options, active) {
  if (active.length < 2) return options;
  return [true, false].map((isActive) => {
    const group = node('optgroup');
    group.label = isActive ? `${active.length} runs at work` : 'Other runs';
    group.append(...options.filter(({ value }) => active.includes(value) === isActive));
    return group;
  });
}

/**
 * @param {Status | RunNews} data
 * @returns {data is RunNews}
 */
function isRunNews(data) {
  return Boolean(data.run);
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new Dashboard(part);
}
