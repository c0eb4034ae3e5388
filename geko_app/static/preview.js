// The card of a look before the start: asks for its look until that has ended, and draws what is known.
let key = '', samples = [], shown = 0, timer = null;

function drawSample() {
  q('.l-sample').hidden = !samples.length;
  if (!samples.length) return;
  q('.l-text').replaceChildren(...samples[shown].map(([piece, learnt]) => node('span', learnt ? 'learnt' : '', piece)));
  text(q('.l-number'), `${shown + 1} of ${samples.length}`);
  q('.l-before').disabled = shown === 0;
  q('.l-after').disabled = shown === samples.length - 1;
}

function turn(by) {
  shown = Math.max(0, Math.min(samples.length - 1, shown + by));
  drawSample();
}

function drawFigures(figures) {
  q('.l-figures').replaceChildren(...figures.map((figure) => {
    const box = node('div');
    box.append(node('dt', '', figure.name), node('dd', 'value', figure.value), node('dd', 'note', figure.note));
    box.title = figure.note;
    return box;
  }));
}

function drawLengths(lengths) {
  q('.l-lengths').hidden = !lengths.length;
  if (!lengths.length) return;
  const most = Math.max(...lengths.map((bin) => bin[1]));
  q('.l-bins').replaceChildren(...lengths.map(([longest, count], i) => {
    const bar = node('span');
    bar.style.height = (count ? Math.max(2, 100 * count / most) : 0) + '%';
    bar.title = `${i ? lengths[i - 1][0] + 1 : 1} to ${longest} tokens: ${count.toLocaleString('en')} samples`;
    return bar;
  }));
  const axis = q('.l-axis').children, last = lengths[lengths.length - 1][0];
  ['1', String(Math.round(last / 2)), `${last} tokens`].forEach((label, i) => text(axis[i], label));
}

function drawMemory(memory) {
  q('.l-memory').hidden = !memory;
  if (!memory) return;
  q('.l-memory').dataset.verdict = memory.verdict;
  text(q('.l-verdict'), memory.sentence);
  text(q('.l-note'), memory.note);
  q('.l-parts').replaceChildren(...memory.parts.map((part) => {
    const bar = node('span', part.part);
    bar.style.flexGrow = part.share;
    bar.title = `${part.name}: ${part.text}`;
    return bar;
  }));
  q('.l-legend').replaceChildren(...memory.parts.map((part) => {
    const line = node('li', part.part);
    line.append(node('span', '', part.name), node('strong', '', part.text));
    return line;
  }));
}

function draw(card) {
  text(q('.l-status'), card.status);
  q('.l-error').hidden = !card.error;
  text(q('.l-error'), card.error);
  text(q('.l-shape'), card.shape);
  if (card.samples && card.samples.length && !samples.length) { samples = card.samples; shown = 0; drawSample(); }
  drawFigures(card.figures);
  drawLengths(card.lengths);
  drawMemory(card.memory);
  q('.l-odd').hidden = !card.findings.length;
  q('.l-findings').replaceChildren(...card.findings.map((sentence) => node('li', '', sentence)));
}

async function poll() {
  if (!element.isConnected || !key) return;
  let wait = 400;
  try {
    const asked = key, card = await server.look({ key, samples: samples.length > 0 });
    if (asked !== key) return;
    if (!card) return close();  // the page was started anew: there is no such look any more
    draw(card);
    if (!card.running) return;
  } catch (error) {
    text(q('.l-status'), 'connection lost, trying again');
    wait = 2000;
  }
  timer = setTimeout(poll, wait);
}

function close() {
  key = '';
  clearTimeout(timer);
  q('.geko-preview').hidden = true;
}

window.addEventListener('geko-preview', (event) => {
  if (!event.detail) return;
  clearTimeout(timer);
  key = event.detail;
  samples = [];
  drawSample();
  draw({ status: 'Starting', error: '', shape: '', figures: [], lengths: [], memory: null, findings: [] });
  q('.geko-preview').hidden = false;
  q('.geko-preview').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  poll();
});
q('.l-close').onclick = close;
q('.l-before').onclick = () => turn(-1);
q('.l-after').onclick = () => turn(1);
