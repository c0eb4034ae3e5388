// The banner of a Hugging Face Space: who may start runs here, what happens to them, and a pause.

import { button, node, setText, View } from './dom.js';

const SECONDS = 20; // between two looks at whether a pause makes sense

/**
 * @typedef {object} SpaceState
 * @property {string} name of who has signed in, or ""
 * @property {boolean} owner
 * @property {boolean} signs_in
 * @property {boolean} can_pause
 * @property {string[]} notes
 */

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  const view = new View(part);

  async function refresh() {
    const answer = await fetch(new URL('geko-space', document.baseURI));
    if (answer.ok) show(view, await answer.json(), refresh);
  }

  refresh();
  const timer = window.setInterval(() => {
    if (!view.element.isConnected) clearInterval(timer);
    else if (document.visibilityState === 'visible') refresh();
  }, SECONDS * 1000);
}

/**
 * @param {View} view
 * @param {SpaceState} state
 * @param {() => void} refresh
 */
function show(view, state, refresh) {
  document.body.dataset.role = state.owner ? 'owner' : 'visitor';
  setText(view.q('.sp-role'), sentence(state));
  view.q('.sp-notes').replaceChildren(...state.notes.map((note) => node('li', '', note)));
  const actions = [];
  if (state.signs_in) actions.push(signLink(state.name));
  if (state.owner && state.can_pause) actions.push(button('Pause this Space', '', () => pause(view, refresh)));
  const shown = JSON.stringify([state.name, state.owner, state.can_pause]);
  const area = view.q('.sp-actions');
  if (area.dataset.shown !== shown) {
    area.dataset.shown = shown; // drawn only when it changes, so that the focus stays
    area.replaceChildren(...actions);
  }
  view.q('.geko-space').hidden = false;
}

/** @param {SpaceState} state */
function sentence(state) {
  if (state.owner) return `Signed in as ${state.name}: you can start, stop and export runs.`;
  if (state.name) return `Signed in as ${state.name}: you can watch. Duplicate this Space to train in your own.`;
  return 'You are watching. The owner of this Space signs in to start, stop and export runs.';
}

/** @param {string} name */
function signLink(name) {
  const link = node('a', '', name ? 'Sign out' : 'Sign in with Hugging Face');
  link.href = new URL(name ? 'logout' : 'login/huggingface', document.baseURI).href;
  if (window.self !== window.top) link.target = '_blank'; // in the frame of the Hub cookies may be kept out
  return link;
}

/**
 * @param {View} view
 * @param {() => void} refresh
 */
async function pause(view, refresh) {
  const headers = { 'Content-Type': 'application/json' };
  const answer = await fetch(new URL('geko-space/pause', document.baseURI), { method: 'POST', headers, body: '{}' });
  const result = await answer.json();
  view.showError('.sp-error', result.error ?? result.detail ?? '');
  refresh();
}
