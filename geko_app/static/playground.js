// The Try it page: asks for answers, looks at them by short polls, and draws what is new.
// Holds the key of what was asked last; the server knows the rest of it.
const SIDES = ['base', 'tuned'];
const LOOK_AGAIN = 10000;  // milliseconds between two looks at the list of runs

let asks = 0, runs = [], chosen = null, remembered = null, listedAt = 0, examplesOf = '', underway = false;
const visible = () => element.offsetParent !== null && document.visibilityState === 'visible';
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const current = {};  // kind of job -> key that is being followed

// Looks at a job until it is done, or until another one of its kind took its place.
async function follow(kind, key, draw, had = () => ({})) {
  current[kind] = key;
  while (element.isConnected && current[kind] === key) {
    let pause = 200;
    if (visible()) {
      try {
        const card = await server.look({ key, had: had() });
        if (current[kind] !== key) return;
        if (!card) return draw(null);  // the page was started anew: there is no such job any more
        draw(card);
        if (!card.running) return;
      } catch { pause = 2000; }
    }
    await wait(pause);
  }
}

async function begin(name, query) {
  try { return await server[name](query); } catch { return { key: '', error: DEAF }; }
}

function complain(where, error) {
  q(where).hidden = !error;
  text(q(where), error);
}

// ---------------------------------------------------------------- runs and their examples

function fill(select, pairs, value) {
  const shown = JSON.stringify(pairs);
  if (select.dataset.shown !== shown) {
    select.dataset.shown = shown;
    select.replaceChildren(...pairs.map(([id, label]) => new Option(label, id)));
  }
  select.value = pairs.some(([id]) => id === value) ? value : (pairs[0] || [''])[0];
}

async function list() {
  listedAt = Date.now();
  let found;
  try { found = await server.runs({}); } catch { return; }
  if (!found) return;  // the server was going down: the next look asks again
  runs = found.runs;
  q('.t-none').hidden = runs.length > 0;
  q('.t-all').hidden = runs.length === 0;
  if (!runs.length) return;
  const wanted = q('.t-run').value || kept('geko-playground-run') || found.default;
  fill(q('.t-run'), runs.map((run) => [run.id, run.label]), runs.some((run) => run.id === wanted) ? wanted : found.default);
  choose();
}

function choose(which) {
  const run = runs.find((one) => one.id === q('.t-run').value);
  if (!run) return;
  fill(q('.t-which'), run.models, which || q('.t-which').value);
  text(q('.t-base'), `Began with ${run.base}`);
  if (examplesOf === run.id) return;
  examplesOf = run.id;
  chosen = null;
  q('.t-examples').hidden = true;
  q('.t-earlier').hidden = true;
  findExamples(run.id);
}

async function findExamples(run) {
  text(q('.t-notes'), 'Looking for examples in its data');
  const { key, error } = await begin('examples', { run });
  if (examplesOf !== run) return;
  if (error) return text(q('.t-notes'), error);
  follow('examples', key, (card) => {
    if (!card) return text(q('.t-notes'), '');
    if (card.running) return;
    text(q('.t-notes'), [card.error, ...card.notes].filter(Boolean).join(' '));
    drawExamples(card.groups);
  });
}

function drawExamples(groups) {
  q('.t-examples').hidden = !groups.length;
  q('.t-examples').replaceChildren(...groups.map((group) => {
    const part = node('div', 't-group'), rows = node('div', 't-rows');
    rows.append(...group.rows.map((row) => {
      if (remembered && remembered.example === row.ref && remembered.prompt === row.prompt) take({ ...row, answer: remembered.answer });
      const chip = node('button', 't-chip');
      chip.type = 'button';
      chip.append(node('span', 't-chip-prompt', row.prompt), ...(row.note ? [node('span', 't-chip-note', row.note)] : []));
      chip.title = row.note ? `${row.prompt}\n${row.note}` : row.prompt;
      chip.onclick = () => { take(row); send(); };
      return chip;
    }));
    part.append(node('h4', '', group.title), rows);
    return part;
  }));
  remembered = null;
}

function take(row) {
  chosen = row;
  q('.t-prompt').value = row.prompt;
  q('.t-answer').value = row.answer;
  q('.t-earlier').hidden = !row.earlier;
  text(q('.t-earlier'), `Together with ${row.earlier === 1 ? 'the turn' : `the ${row.earlier} turns`} before it in its conversation.`);
}

// ---------------------------------------------------------------- the two answers

const card = (side) => q(`.t-card[data-side="${side}"]`);
const points = (value) => [...value];  // characters as Python counts them, not UTF-16 halves
const drawn = () => Object.fromEntries(SIDES.map((side) => [side, points(card(side).querySelector('.t-text').textContent).length]));

function question() {
  return {
    run: q('.t-run').value, which: q('.t-which').value,
    prompt: chosen ? chosen.prompt : q('.t-prompt').value, answer: q('.t-answer').value, example: chosen ? chosen.ref : '',
  };
}

function clear() {
  for (const side of SIDES) {
    text(card(side).querySelector('.t-text'), '');
    card(side).querySelector('.t-text').classList.remove('t-failed');
    text(card(side).querySelector('.t-status'), '');
    card(side).dataset.verdict = '';
    text(card(side).querySelector('.t-verdict'), '');
  }
  q('.t-read').hidden = true;
}

// What stands there was said by another model.
function turned() {
  asks += 1;
  if (underway) server.stop({ key: current.talk });
  current.talk = current.losses = '';
  kept('geko-playground-key', '');
  busy(false);
  clear();
  clearLosses();
}

function busy(running) {
  underway = running;
  q('.t-send').disabled = running;
  q('.t-stop').hidden = !running;
  q('.t-stop').disabled = false;
}

async function send() {
  const number = (selector) => (q(selector).value === '' ? null : Number(q(selector).value));
  if (current.talk && underway) server.stop({ key: current.talk });
  current.talk = '';
  const mine = ++asks;
  current.losses = '';
  busy(true);
  clear();
  clearLosses();
  complain('.t-error', '');
  const { key, error } = await begin('ask', {
    ...question(), temperature: number('.t-temperature'), top_p: number('.t-top-p'), max_new_tokens: number('.t-longest'),
  });
  if (mine !== asks) { if (key) server.stop({ key }); return; }  // another model was chosen meanwhile
  if (error) { busy(false); return complain('.t-error', error); }
  kept('geko-playground-key', key);
  q('.t-cards').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  follow('talk', key, drawTalk, drawn);
}

function drawTalk(found) {
  if (!found) { kept('geko-playground-key', ''); return busy(false); }
  for (const side of found.sides) {
    const where = card(side.side), shown = where.querySelector('.t-text');
    // The answer grows at its end; where it was told from elsewhere, it is drawn anew.
    const had = points(shown.textContent), atEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 8;
    if (side.text || side.from < had.length) shown.textContent = had.slice(0, side.from).join('') + side.text;
    if (side.writing && atEnd) shown.scrollTop = shown.scrollHeight;
    shown.setAttribute('aria-busy', side.writing);
    shown.classList.toggle('t-writing', side.writing);
    shown.classList.toggle('t-failed', !!side.error);
    if (side.error) text(shown, side.error);
    text(where.querySelector('.t-status'), side.status);
    where.dataset.verdict = side.verdict;
    text(where.querySelector('.t-verdict'), side.verdict);
  }
  q('.t-read').hidden = !found.read;
  text(q('.t-read pre'), found.read);
  text(q('.t-read summary'), `What both models read · ${found.read_tokens} tokens`);
  complain('.t-error', [found.error, found.note].filter(Boolean).join(' '));
  busy(found.running);
}

// What was asked before a reload is shown again.
async function recall() {
  const key = kept('geko-playground-key');
  if (!key) return;
  let found = null;
  try { found = await server.look({ key, had: {} }); } catch { return; }
  if (!found || !found.asked || current.talk) return;
  q('.t-prompt').value = found.asked.prompt;
  q('.t-answer').value = found.asked.answer;
  if (runs.some((run) => run.id === found.asked.run_id)) {
    remembered = found.asked;
    examplesOf = '';
    q('.t-run').value = found.asked.run_id;
    choose(found.asked.which);
  }
  follow('talk', key, drawTalk, drawn);
}

// ---------------------------------------------------------------- where it is unsure

async function unsure() {
  complain('.t-unsure-error', '');
  text(q('.t-unsure-status'), 'Looking');
  q('.t-look').disabled = true;
  const { key, error } = await begin('unsure', question());
  const rest = (sentence) => { q('.t-look').disabled = false; text(q('.t-unsure-status'), ''); complain('.t-unsure-error', sentence); };
  if (error) return rest(error);
  follow('losses', key, (found) => {
    if (!found) return rest('');
    if (found.running) return;
    rest(found.error);
    drawLosses(q('.t-legend'), q('.t-losses'), found);
  });
}

function clearLosses() {
  q('.t-look').disabled = false;
  q('.t-legend').hidden = true;
  q('.t-losses').replaceChildren();
  text(q('.t-unsure-status'), '');
  complain('.t-unsure-error', '');
}

// ---------------------------------------------------------------- what is pressed, and the beat

q('.t-send').onclick = send;
q('.t-stop').onclick = () => { q('.t-stop').disabled = true; server.stop({ key: current.talk }); };
q('.t-look').onclick = unsure;
q('.t-run').onchange = () => { kept('geko-playground-run', q('.t-run').value); choose('final'); turned(); };
q('.t-which').onchange = turned;
q('.t-prompt').oninput = () => { chosen = null; remembered = null; q('.t-earlier').hidden = true; };
q('.t-temperature').oninput = () => { q('.t-top-p').disabled = !(Number(q('.t-temperature').value) > 0); };
element.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !underway) { event.preventDefault(); send(); }
});

let wasVisible = false, recalled = false;
async function beat() {
  while (element.isConnected) {
    const now = visible();
    if (now && (!wasVisible || Date.now() - listedAt > LOOK_AGAIN)) {
      await list();
      if (!recalled && runs.length) { recalled = true; await recall(); }
    }
    wasVisible = now;
    await wait(300);
  }
}
beat();
