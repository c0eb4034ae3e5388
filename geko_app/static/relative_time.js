// A moment as people say it: "5 min ago", "yesterday", "Nov 3". The full date belongs into the tooltip beside it.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * @param {number} at seconds since 1970
 * @param {number} [now]
 */
export function relativeTime(at, now = Date.now() / 1000) {
  const age = now - at;
  if (age < MINUTE) return 'just now';
  if (age < HOUR) return `${Math.floor(age / MINUTE)} min ago`;
  if (age < DAY) return `${Math.floor(age / HOUR)} h ago`;
  if (age < 2 * DAY) return 'yesterday';
  if (age < 7 * DAY) return `${Math.floor(age / DAY)} days ago`;
  const date = new Date(1000 * at);
  const year = date.getFullYear() === new Date(1000 * now).getFullYear() ? undefined : 'numeric';
  return date.toLocaleDateString('en-US', { month: 'short', day: 'numeric', year });
}
