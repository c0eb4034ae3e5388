// What all scripts of the pages share; it stands before each. Making nodes, small things kept in the browser, asking again.
const q = (selector) => element.querySelector(selector);
const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
const theme = () => (document.body.classList.contains('dark') ? 'dark' : 'light');
const DEAF = 'The page does not answer: is geko-app still running?';

// In this tab (kept), or in this browser (lasting); "" for what is not there.
function kept(key, value, storage = 'sessionStorage') {
  try { return value === undefined ? window[storage].getItem(key) || '' : window[storage].setItem(key, value); } catch { return ''; }  // private mode
}
function lasting(key, value) { return kept(key, value, 'localStorage'); }

function tell(name, detail) { window.dispatchEvent(new CustomEvent(name, { detail })); }

function turnTo(name) {
  const pages = [...document.querySelectorAll('#geko-pages button[role="tab"]')];
  pages.find((page) => page.textContent.trim() === name)?.click();
}

function node(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

function button(label, className, onclick) {
  const made = node('button', className, label);
  made.type = 'button';
  made.onclick = onclick;
  return made;
}

function copier(value) {
  return button('Copy', 'copy', async (event) => {
    const pressed = event.currentTarget;
    try { await navigator.clipboard.writeText(value); } catch {  // only https and localhost have a clipboard
      const area = node('textarea', '', value);
      document.body.append(area); area.select(); document.execCommand('copy'); area.remove();
    }
    pressed.textContent = 'Copied';
    setTimeout(() => { pressed.textContent = 'Copy'; }, 1500);
  });
}

// What both models make of a text, each token coloured by its loss.
function drawLosses(legend, losses, found) {
  const known = found.sides.filter((side) => side.tokens.length || side.error);
  legend.hidden = !known.some((side) => side.tokens.length);
  legend.replaceChildren(...found.legend.map((label, level) => node('li', `t-level-${level}`, label)));
  losses.replaceChildren(...known.map((side) => {
    const part = node('div', 't-loss'), head = node('div', 't-loss-head'), line = node('p', 't-tokens');
    head.append(node('h4', '', side.title), node('span', '', side.mean ? `mean loss ${side.mean}` : ''));
    line.append(...side.tokens.map(([piece, level, told]) => {
      const token = node('span', level === null ? 't-given' : `t-level-${level}`, piece.replaceAll('\n', '↵\n') || '·');
      token.title = told;
      return token;
    }));
    part.append(head, side.error ? node('p', 'geko-error', side.error) : line);
    return part;
  }));
}

// Calls `ask`, which answers how many milliseconds to wait, again and again while this part can be seen.
// What comes back asks again at once.
function asking(ask, onerror) {
  let timer = null, busy = false;
  async function round() {
    if (!element.isConnected) return;
    if (busy) return again(50);
    let wait = 300;
    if (document.visibilityState === 'visible' && element.offsetParent !== null) {
      busy = true;
      try { wait = await ask(); } catch (error) { wait = 2000; onerror(error); }
      busy = false;
    }
    again(wait);
  }
  function again(wait) { clearTimeout(timer); timer = setTimeout(round, wait || 0); }
  again(0);
  return again;
}
