// What the run takes of this computer: a small chart for processor, memory and GPU, of the last minutes.

import { node, setText } from './dom.js';

/** @typedef {{name: string, value: string, points: number[]}} Usage points as shares of the height, the newest last */

const WIDTH = 100;
const HEIGHT = 30;
const POINTS = 120; // as many as the server keeps
const SVG = 'http://www.w3.org/2000/svg';

/**
 * @param {HTMLElement} list
 * @param {Usage[]} charts
 */
export function drawUsage(list, charts) {
  const names = charts.map((chart) => chart.name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...charts.map(({ name }) => newChart(name)));
  }
  charts.forEach(({ name, value, points }, i) => {
    const item = list.children[i];
    setText(item.querySelector('.u-value'), value);
    const line = points.map((point, at) => {
      const x = WIDTH - ((points.length - 1 - at) * WIDTH) / (POINTS - 1);
      return `${x.toFixed(1)},${(HEIGHT * (1 - Math.min(1, point))).toFixed(1)}`;
    });
    const first = line[0]?.split(',')[0] ?? WIDTH;
    item.querySelector('polyline')?.setAttribute('points', line.join(' '));
    item.querySelector('polygon')?.setAttribute('points', `${first},${HEIGHT} ${line.join(' ')} ${WIDTH},${HEIGHT}`);
    item.querySelector('svg')?.setAttribute('aria-label', `${name} over the last two minutes, now ${value}`);
  });
}

/** @param {string} name */
function newChart(name) {
  const item = node('li');
  const picture = document.createElementNS(SVG, 'svg');
  picture.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute('preserveAspectRatio', 'none');
  picture.setAttribute('role', 'img');
  picture.append(document.createElementNS(SVG, 'polygon'), document.createElementNS(SVG, 'polyline'));
  item.append(node('span', 'u-name', name), node('span', 'u-value'), picture);
  return item;
}
