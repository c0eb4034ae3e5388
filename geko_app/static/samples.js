// The Samples page: asks whether anything has changed, and draws only then. Holds nothing but what this tab shows.

import { DataMap } from './data_map.js';
import { rowsOf } from './decision_words.js';
import { fillSelect, node, SERVER_UNREACHABLE, sessionSetting, setText, View } from './dom.js';
import { pollWhileVisible } from './poll.js';
import { SampleChanges } from './sample_changes.js';
import { SampleCoreSet } from './sample_core_set.js';
import { SampleDetail } from './sample_detail.js';
import { SampleExport } from './sample_export.js';
import { SampleReview } from './sample_review.js';
import { SampleGroups } from './samples_groups.js';
import { drawHead, tableRow } from './samples_table.js';

/**
 * @typedef {object} Query what this tab shows
 * @property {string} filter
 * @property {string} text
 * @property {string} sort
 * @property {boolean} down
 * @property {number} page
 * @property {string} slicing
 * @property {string} value of the group; both empty for all samples
 *
 * @typedef {object} News
 * @property {string | null} run
 * @property {string} version
 * @property {[string, string][]} runs
 * @property {boolean} active
 *
 * @typedef {News & {
 *   run: string,
 *   sentence: string,
 *   buckets: [string, string, string][],
 *   filters: [string, string][],
 *   counts: Record<string, number>,
 *   changes: number,
 *   at: string,
 *   record: string,
 *   next_run: Record<string, unknown>,
 *   export: string,
 *   retraining: import('./sample_variants.js').Variant[],
 *   check: string,
 *   layout: string,
 * }} Overview
 *
 * @typedef {object} Page
 * @property {string} sentence
 * @property {import('./samples_table.js').Line[]} lines
 * @property {number} total
 * @property {number} page
 * @property {number} pages
 * @property {Record<'flag' | 'unflag', {count: number, key: string}>} bulk rows that a button for all changes
 */

const ALWAYS_SHOWN = ['', 'freeze', 'light', 'focus', 'hard', 'suspicious', 'likely_mislabeled', 'flagged'];
const NO_ISSUE = ['flagged', 'never_trained', 'reviewed', 'edited']; // filters that are not sorted by severity
const IN_ROW_ORDER = { sort: 'row', down: false };
const BY_SEVERITY = { sort: 'severity', down: true };
const VIEWS = /** @type {const} */ (['table', 'review', 'changes', 'groups', 'map']);
const LISTS = ['table', 'review']; // views of what filter and search select
const NO_GROUP = { slicing: '', value: '' };
const RUN_KEY = 'geko-samples-run';
const TYPING = 250; // milliseconds after the last letter of a search

class Samples extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.run = '';
    this.version = '';
    /** @type {Query} */
    this.view = { filter: '', text: '', ...IN_ROW_ORDER, page: 0, ...NO_GROUP };
    /** @type {Record<string, number>} */
    this.counts = {};
    /** @type {typeof VIEWS[number]} */
    this.shown = 'table';
    this.hasPrompts = true;
    this.questions = 0; // pages of the table that were asked for
    this.export = new SampleExport(part);
    this.coreSet = new SampleCoreSet(part);
    const host = this.hostOfDecisions();
    this.review = new SampleReview(part, host);
    this.detail = new SampleDetail(part, host);
    this.changes = new SampleChanges(part, () => this.run, host.undo);
    const loadFigure = () => this.server.map_figure({});
    this.map = new DataMap(this.q('.c-map'), this.q('.m-map-note'), loadFigure, (id) => this.open(id));
    this.groups = new SampleGroups(this.q('.m-groups-view'), (name, title, value) => {
      setText(this.q('.m-in-group span'), `${title}: ${value}`);
      this.turnTo('table');
      this.change({ slicing: name, value });
    });
    this.wire();
    this.schedulePoll = pollWhileVisible(
      this.element,
      () => this.poll(),
      () => this.showUnreachable(),
    );
  }

  wire() {
    const search = this.input('.m-search');
    let typing = 0;
    search.oninput = () => {
      clearTimeout(typing);
      typing = window.setTimeout(() => this.change({ text: search.value }), TYPING);
    };
    this.q('.m-before').onclick = () => this.change({ page: this.view.page - 1 });
    this.q('.m-after').onclick = () => this.change({ page: this.view.page + 1 });
    for (const view of VIEWS) this.q(`[data-view="${view}"]`).onclick = () => this.turnTo(view);
    this.q('.m-no-group').onclick = () => this.change(NO_GROUP);
    const picker = this.select('.geko-runs');
    picker.onchange = () => {
      sessionSetting(RUN_KEY, picker.value);
      this.schedulePoll();
    };
    window.addEventListener('geko-theme', () => this.schedulePoll());
  }

  /** What the views that show decisions ask of this one. */
  hostOfDecisions() {
    return {
      query: () => ({ run: this.run, ...this.view }),
      error: (/** @type {string} */ sentence) => this.showError('.m-error', sentence),
      changed: () => this.schedulePoll(),
      undo: (/** @type {number[]} */ ids) => this.undo(ids),
      review: (/** @type {number} */ id) => {
        this.turnTo('review');
        this.review.open(id);
      },
    };
  }

  /**
   * Takes decisions back.
   * @param {number[]} ids
   */
  async undo(ids) {
    try {
      const { sentence } = await this.server.undo({ run: this.run, ids });
      this.showError('.m-error', sentence);
    } catch {
      this.showUnreachable();
    }
    this.schedulePoll();
  }

  /** @param {typeof VIEWS[number]} view */
  turnTo(view) {
    this.shown = view;
    this.q('.m-list-view').hidden = view !== 'table';
    this.q('.m-groups-view').hidden = view !== 'groups';
    this.q('.m-map-view').hidden = view !== 'map';
    this.q('.m-review-view').hidden = view !== 'review';
    this.q('.m-changes-view').hidden = view !== 'changes';
    this.q('.m-filters').hidden = this.q('.m-search').hidden = !LISTS.includes(view);
    this.q('.v-progress').hidden = view !== 'review';
    this.q('.m-body').classList.toggle('reviewing', view === 'review');
    for (const one of VIEWS) this.q(`[data-view="${one}"]`).setAttribute('aria-pressed', String(view === one));
    if (view === 'review') this.review.enter();
    if (view === 'review' && !this.view.filter) this.filterBy('suspicious');
    else this.drawShown().catch(() => this.showUnreachable());
  }

  /** What the chosen view shows, as the run is now. */
  async drawShown() {
    if (this.shown === 'review') await this.review.load();
    if (this.shown === 'changes') await this.changes.load();
    await this.drawGroups();
    await this.map.draw();
  }

  /** Of the run as it is now; nothing is asked while they are not shown. */
  async drawGroups() {
    if (this.q('.m-groups-view').hidden || !this.run) return;
    const { sentence, groupings, note } = await this.server.groups({ run: this.run });
    this.groups.show(groupings ?? [], sentence || note);
  }

  showUnreachable() {
    this.showError('.m-error', SERVER_UNREACHABLE);
  }

  // ---------------------------------------------------------------- filters

  /**
   * @param {string} key
   * @param {string} label
   * @param {string} [meaning]
   */
  chip(key, label, meaning) {
    const made = node('button', `m-chip ${key}`);
    made.type = 'button';
    made.dataset.filter = key;
    made.append(node('span', 'name', label), node('span', 'count'));
    if (meaning) made.append(node('span', 'meaning', meaning));
    made.onclick = () => this.filterBy(this.view.filter === key ? '' : key);
    return made;
  }

  /**
   * Issues come in the order of their severity; other filters keep the order.
   * @param {string} filter
   */
  filterBy(filter) {
    const isBucket = this.q('.m-chips').querySelector(`[data-filter="${filter}"]`) !== null;
    const order = isBucket || NO_ISSUE.includes(filter) ? {} : BY_SEVERITY;
    this.change({ filter, ...order });
  }

  /**
   * @param {[string, string, string][]} buckets key, label and meaning
   * @param {[string, string][]} filters key and label
   */
  drawChips(buckets, filters) {
    if (this.q('.m-chips').children.length) return;
    this.q('.m-chips').replaceChildren(
      this.chip('', 'All', 'samples of the run'),
      ...buckets.map((bucket) => this.chip(...bucket)),
    );
    this.q('.m-odd').replaceChildren(...filters.map((filter) => this.chip(...filter)));
  }

  drawCounts() {
    const chips = /** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll('.m-chip'));
    for (const chip of chips) {
      const key = chip.dataset.filter ?? '';
      const count = this.counts[key] ?? 0;
      setText(chip.querySelector('.count'), count.toLocaleString('en'));
      chip.setAttribute('aria-pressed', String(this.view.filter === key));
      chip.hidden = !count && this.view.filter !== key && !ALWAYS_SHOWN.includes(key);
    }
  }

  /** @param {Partial<Query>} changes */
  change(changes) {
    this.view = { ...this.view, page: 0, ...changes };
    this.q('.m-table').setAttribute('aria-busy', 'true');
    this.drawCounts();
    this.drawTable().catch(() => this.showUnreachable());
    if (this.shown === 'review') this.review.restart();
  }

  // ---------------------------------------------------------------- the table

  async drawTable() {
    this.questions += 1;
    const question = this.questions;
    /** @type {Page} */
    const data = await this.server.table({ run: this.run, ...this.view });
    if (question !== this.questions) return; // a later question is on its way
    this.showError('.m-error', data.sentence);
    if (data.sentence) return;
    this.view.page = data.page;
    drawHead(this.q('thead tr'), this.view, this.hasPrompts, (order) => this.change(order));
    this.drawLines(data);
    this.drawTurning(data);
    this.q('.m-table').setAttribute('aria-busy', 'false');
  }

  /** @param {Page} data */
  drawLines(data) {
    const focused = document.activeElement;
    const row = /** @type {HTMLElement | null} */ (focused?.closest('#geko-samples tbody tr') ?? null);
    const kind = focused instanceof HTMLInputElement ? 'input' : '.m-open';
    const handlers = {
      open: (/** @type {number} */ id) => this.open(id),
      flag: (/** @type {number} */ id, /** @type {boolean} */ flagged) => this.flag({ ids: [id] }, flagged),
    };
    const { hasPrompts } = this;
    const rows = data.lines.map((line) => tableRow(line, { isOpen: line.id === this.detail.id, hasPrompts }, handlers));
    this.q('tbody').replaceChildren(...rows);
    if (!row) return;
    const same = this.element.querySelector(`tbody tr[data-id="${row.dataset.id}"] ${kind}`);
    if (same instanceof HTMLElement) same.focus({ preventScroll: true });
  }

  /** @param {Page} data */
  drawTurning({ total, page, pages, bulk }) {
    const count = total.toLocaleString('en');
    this.q('.m-scroll').hidden = !total;
    this.q('.m-none').hidden = Boolean(total);
    this.q('.m-in-group').hidden = !this.view.slicing;
    setText(this.q('.m-found'), `${count} ${total === 1 ? 'sample' : 'samples'}`);
    setText(this.q('.m-number'), `${page + 1} of ${pages.toLocaleString('en')}`);
    this.button('.m-before').disabled = !page;
    this.button('.m-after').disabled = page + 1 >= pages;
    const isNarrowed = Boolean(this.view.filter || this.view.text || this.view.slicing) && total > 0;
    const [all, unflag] = [this.q('.m-all'), this.q('.m-unflag')];
    setText(all, bulk.flag.count === 1 ? 'Flag 1 row' : `Flag all ${rowsOf(bulk.flag.count)}`);
    setText(unflag, bulk.unflag.count === 1 ? 'Unflag 1 row' : `Unflag all ${rowsOf(bulk.unflag.count)}`);
    all.onclick = () => this.flag({ all: true, key: bulk.flag.key }, true);
    unflag.onclick = () => this.flag({ all: true, key: bulk.unflag.key }, false);
    all.hidden = !isNarrowed || this.view.filter === 'flagged';
    unflag.hidden = !isNarrowed || !bulk.unflag.count;
  }

  /**
   * Flags samples, or takes their flags away.
   * @param {{ids?: number[], all?: boolean, key?: string}} which with `all` the key of the button
   * @param {boolean} flagged
   */
  async flag(which, flagged) {
    try {
      const { sentence } = await this.server.flag_samples({ run: this.run, ...this.view, ...which, flagged });
      this.showError('.m-error', sentence);
    } catch {
      this.showUnreachable();
    }
    this.schedulePoll();
  }

  /** @param {number} id */
  open(id) {
    this.detail.open(id, { focus: true }).catch(() => this.showUnreachable());
  }

  // ---------------------------------------------------------------- the loop

  async poll() {
    /** @type {News | Overview} */
    const data = await this.server.pull({ run: sessionSetting(RUN_KEY), version: this.version });
    fillSelect(this.select('.geko-runs'), data.runs, data.run ?? '');
    this.select('.geko-runs').hidden = !data.runs.length;
    if (data.version === this.version) await this.map.draw();
    else await this.show(/** @type {Overview} */ (data));
    return data.active ? 1500 : 3000;
  }

  /** @param {Overview} data */
  async show(data) {
    this.q('.m-body').hidden = Boolean(data.sentence);
    this.q('.geko-empty').hidden = !data.sentence;
    setText(this.q('.m-sentence'), data.sentence);
    setText(this.q('.m-at'), data.sentence ? '' : data.at);
    if (data.run !== this.run) {
      this.run = this.detail.run = data.run;
      this.detail.close();
      this.review.forget();
      this.view = { ...this.view, page: 0, ...NO_GROUP };
      this.map.setData('', null);
    }
    if (data.sentence) {
      this.version = data.version;
      return;
    }
    this.drawOverview(data);
    await this.drawTable();
    if (this.detail.id !== null) await this.detail.open(this.detail.id, { focus: false });
    // Flags change no point of the map.
    if (this.map.version !== data.record) {
      this.map.setData(data.record, await this.server.data_map({ run: this.run }));
    }
    await this.drawShown();
    this.version = data.version; // last: what failed half-way is drawn anew
  }

  /** @param {Overview} data */
  drawOverview(data) {
    this.counts = data.counts;
    this.hasPrompts = this.review.hasPrompts = data.layout !== 'text';
    this.export.show(data);
    this.coreSet.show(data.run);
    setText(this.q('.m-changed'), data.changes ? data.changes.toLocaleString('en') : '');
    setText(this.q('.m-check'), data.check);
    this.drawChips(data.buckets, data.filters);
    this.drawCounts();
  }
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new Samples(part);
}
