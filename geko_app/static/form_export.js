// Tells the server what the form says, while the other forms of it can be seen.
window.addEventListener('geko-form', (event) => {
  if (!element.isConnected || element.closest('#geko-words').offsetHeight < 100) return;  // folded
  props.value = JSON.stringify(event.detail);
  trigger('change');
});
