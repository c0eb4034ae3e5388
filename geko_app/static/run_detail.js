// One run, opened: its figures and files, and what can be done with it.
let id = kept('geko-opened'), drawn = '', note = null, places = '', configuration = '', packLabel = '';

function place(label, value) {
  const line = node('p', 'geko-path');
  line.append(node('span', '', label), node('code', '', value), copier(value));
  return line;
}

function drawPlaces(data) {
  const key = JSON.stringify([data.model, data.folder, data.checkpoint, data.code, data.command, data.resumable]);
  if (key === places) return;
  places = key;
  const made = [];
  if (data.model) made.push(place('Model', data.model));
  else made.push(node('p', 'geko-hint', data.checkpoint ? 'No model yet: it is saved at the end of the run. What was trained so far is in the newest checkpoint.' : 'No model yet: it is saved at the end of the run.'));
  if (!data.model && data.checkpoint) made.push(place('Checkpoint', data.checkpoint));
  made.push(place('Folder', data.folder), place('Run it again', data.command));
  if (data.code) {
    const code = node('div', 'geko-code');
    code.append(node('pre', '', data.code), copier(data.code));
    made.push(code);
  }
  q('.o-places').replaceChildren(...made);
}

function drawFigures(figures) {
  q('.o-figures').replaceChildren(...figures.map(([name, value]) => {
    const box = node('div');
    box.append(node('dt', '', name), node('dd', '', value));
    return box;
  }));
}

function drawTexts(data) {
  if (configuration !== data.config) {
    configuration = data.config;
    q('.o-config .geko-code').replaceChildren(node('pre', '', data.config), copier(data.config));
    q('.o-config pre').tabIndex = 0;
  }
  const log = q('.o-log pre'), atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  text(log, data.log || 'Nothing: the worker has printed nothing, or the run is one of the command line.');
  if (atEnd) log.scrollTop = log.scrollHeight;
  const area = q('.o-note textarea');
  if (note === null || (area.value === note && note !== data.note)) area.value = data.note;  // what is being written stays
  note = data.note;
  q('.o-save').disabled = area.value.trim() === note;
}

function draw(data) {
  const key = JSON.stringify(data);
  if (key === drawn) return;
  drawn = key;
  q('.o-run').dataset.phase = data.phase;
  text(q('.o-name'), data.name);
  text(q('.o-status strong'), data.title);
  text(q('.o-reason'), data.reason);
  q('.o-resume').hidden = !data.resumable;
  q('.o-stop').hidden = !data.stoppable;
  q('.o-pack').hidden = !data.model;
  q('.o-report').hidden = !data.report;
  q('.o-delete-steps').hidden = !data.deletable;
  if (!q('.o-pack').disabled) text(q('.o-pack'), packLabel = `Download the model, ${data.model_size}`);
  text(q('.o-sure'), `Delete ${data.size} for good`);
  drawFigures(data.figures);
  drawPlaces(data);
  drawTexts(data);
}

function sure(asked) {
  q('.o-delete').hidden = asked;
  q('.o-sure').hidden = q('.o-keep').hidden = !asked;
  if (asked) q('.o-keep').focus();
}

function complain(error) {
  q('.o-error').hidden = !error;
  text(q('.o-error'), error);
}

async function act(name, more) {
  let answer = { error: DEAF };
  try { answer = await server[name]({ run: id, ...more }); } catch { /* said below */ }
  complain(answer.error);
  tell('geko-runs-changed');
  again(0);
  return answer;
}

function show(run) {
  if (run !== id) { drawn = places = configuration = ''; note = null; q('.o-config').open = q('.o-log').open = false; }
  id = run;
  text(q('.o-saved'), '');
  complain('');
  sure(false);
}

function save(name, href) {
  const link = node('a');
  link.href = href;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

const again = asking(async () => {
  if (!id) { q('.o-run').hidden = true; return 3000; }
  const asked = id, data = await server.opened({ run: asked });
  if (asked !== id) return 0;
  if (!data) { tell('geko-open', ''); return 3000; }
  draw(data);
  q('.o-run').hidden = false;
  return data.stoppable ? 1500 : 3000;
}, () => complain(DEAF));

window.addEventListener('geko-open', async (event) => {
  show(event.detail);
  again(0);
  if (!event.detail) return;
  for (let waited = 0; waited < 40 && (q('.o-run').hidden || !drawn); waited++) await new Promise((done) => setTimeout(done, 50));
  q('.o-run').scrollIntoView({ block: 'start', behavior: 'smooth' });
  q('.o-run').focus({ preventScroll: true });
});
q('.o-close').onclick = () => tell('geko-open', '');
q('.o-show').onclick = () => { kept('geko-shown', id); turnTo('Train'); };
q('.o-use').onclick = () => { tell('geko-use', { run: id }); turnTo('Train'); };
q('.o-resume').onclick = () => act('resume');
q('.o-stop').onclick = () => act('halt');
q('.o-delete').onclick = () => sure(true);
q('.o-keep').onclick = () => { sure(false); q('.o-delete').focus(); };
q('.o-sure').onclick = async () => { sure(false); if (!(await act('remove')).error) tell('geko-open', ''); };
q('.o-note textarea').oninput = (event) => { q('.o-save').disabled = event.target.value.trim() === note; text(q('.o-saved'), ''); };
q('.o-save').onclick = async () => {
  const { error } = await act('keep_note', { text: q('.o-note textarea').value });
  text(q('.o-saved'), error ? '' : 'Saved');
};
q('.o-report').onclick = async () => {
  let content = '';
  try { content = await server.report({ run: id }); } catch { return complain(DEAF); }
  const url = URL.createObjectURL(new Blob([content], { type: 'application/json' }));
  save(id + '-report.json', url);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
};
q('.o-pack').onclick = async (event) => {
  const pressed = event.currentTarget;
  pressed.disabled = true;
  text(pressed, 'Packing …');
  const { error, word } = await act('pack');
  pressed.disabled = false;
  text(pressed, packLabel);
  if (!error) save('', 'geko/download/' + word);
};
