// Sends what the form holds to the server, while its YAML, command and Python can be seen.

/** @param {import('./dom.js').Part} part */
export function mount({ element, props, trigger }) {
  window.addEventListener('geko-form', (event) => {
    const group = /** @type {HTMLElement | null} */ (element.closest('#geko-export'));
    if (!element.isConnected || !group || group.offsetHeight < 100) return; // folded
    props.value = JSON.stringify(event.detail);
    trigger('change');
  });
}
