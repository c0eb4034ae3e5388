(rules, keys) => (...values) => {
  // A demo value gives way to the usual default when the model or the data is no longer the demo's, and comes
  // back with it. What somebody typed in is neither and stays.
  const now = Object.fromEntries(keys.map((key, i) => [key, values[i]]));
  const changed = rules.map((rule) => {
    const demo = rule.follows.every((key) => String(now[key] ?? '').trim() === rule.is);
    const [from, to] = demo ? [rule.usual, rule.demo] : [rule.demo, rule.usual];
    return String(now[rule.key] ?? '') === String(from) ? to : now[rule.key];
  });
  return changed.length === 1 ? changed[0] : changed;
}
