// Asking the server again and again, while somebody can see the answer.

import { sleep } from './dom.js';

const TICK = 300; // milliseconds within which a part that comes back into view asks again
const RETRY = 2000;

/**
 * Whether the window is in front and the page of `element` is open.
 * @param {HTMLElement} element
 */
export function isVisible(element) {
  return document.visibilityState === 'visible' && element.offsetParent !== null;
}

/**
 * Calls `ask` again and again while `element` can be seen, never twice at a time. What comes back into view asks at once.
 * @param {HTMLElement} element
 * @param {() => Promise<number>} ask answers how many milliseconds to wait
 * @param {(error: unknown) => void} onError called before it tries again
 * @returns {(wait?: number) => void} schedulePoll: asks again after so many milliseconds, at once without a number
 */
export function pollWhileVisible(element, ask, onError) {
  let timer = 0;
  let due = 0; // when to ask next
  let asking = false;
  let wasVisible = false;

  async function poll() {
    asking = true;
    due = Infinity; // unless somebody calls schedulePoll meanwhile
    let wait;
    try {
      wait = await ask();
    } catch (error) {
      wait = RETRY;
      onError(error);
    }
    asking = false;
    due = Math.min(due, Date.now() + wait);
    tick();
  }

  function tick() {
    clearTimeout(timer);
    if (!element.isConnected) return;
    const visible = isVisible(element);
    if (visible && !wasVisible) due = 0;
    wasVisible = visible;
    if (asking) return; // poll() ticks when it has its answer
    if (visible && Date.now() >= due) poll();
    else timer = window.setTimeout(tick, visible ? Math.min(TICK, due - Date.now()) : TICK);
  }

  document.addEventListener('visibilitychange', tick);
  tick();
  return (wait = 0) => {
    due = Date.now() + wait;
    tick();
  };
}

/**
 * Follows a job of the server until it has ended, `draw` returns false, or its part is gone.
 * @template {{running: boolean}} Job
 * @param {HTMLElement} element
 * @param {() => Promise<Job | null>} ask null: there is no such job, for instance because the page was restarted
 * @param {(job: Job | null) => boolean | void} draw false: the job is no longer wanted
 * @param {{every?: number, onError?: () => void}} [options] every: milliseconds between two questions
 */
export async function pollJob(element, ask, draw, { every = 250, onError = () => {} } = {}) {
  while (element.isConnected) {
    let wait = every;
    if (isVisible(element)) {
      try {
        const job = await ask();
        if (job === undefined) throw new Error('The server does not answer.'); // so Gradio's client says it
        if (draw(job) === false || !job?.running) return;
      } catch {
        wait = RETRY;
        onError();
      }
    }
    await sleep(wait);
  }
}
