(presets, keys, wanted) => (name, ...now) => {
  // Numbers and lists are compared as they are typed: 0.80 is 0.8, and "1,1,1" is "1, 1, 1".
  const plain = (value) => {
    const text = String(value ?? '').replace(/\s/g, '');
    return text !== '' && !isNaN(text) ? String(Number(text)) : text;
  };
  if (wanted === 'values') return presets[name] ? keys.map((key) => presets[name][key]) : now;
  const found = Object.keys(presets).find((preset) => keys.every((key, i) => plain(presets[preset][key]) === plain(now[i])));
  return found || 'custom';
}
