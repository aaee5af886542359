/* A strip of scores: the calibration images as a histogram, the threshold, and where pictures stand. */

import { number } from "./words.js";

const EDGE = 12;
const TOP = 20; // room for the threshold's label
const BINS = 48;

/** The range that holds the threshold, most calibration scores, and the pictures' own scores. */
export function rangeOf(scores, { threshold, calibration }) {
  const known = [...scores, ...calibration, ...(threshold === null ? [] : [threshold])];
  const low = known.reduce((least, value) => Math.min(least, value), Infinity);
  const high = known.reduce((most, value) => Math.max(most, value), -Infinity);
  const margin = 0.06 * (high - low) || 1;
  return [low - margin, high + margin];
}

/**
 * Draws a strip.
 * @param {object} facts `threshold` and `calibration` of the detector.
 * @param {number[]} range From `rangeOf`.
 * @param {{score: number, kind: string, chosen?: boolean}[]} marks Scores to mark.
 * @param {string} label What a reader who cannot see it is told.
 * @param {number} width In pixels.
 * @returns {SVGElement}
 */
export function strip(facts, [low, high], marks, label, width) {
  const at = (score) => EDGE + ((score - low) / (high - low)) * (width - 2 * EDGE);
  const base = TOP + (facts.calibration.length ? 64 : 28);
  const svg = node("svg", { viewBox: `0 0 ${width} ${base + 20}`, role: "img", class: "strip" });
  svg.append(node("title", {}, label));
  const limit = facts.threshold === null ? null : at(facts.threshold);
  svg.append(...sides(limit, width, base), ...histogram(facts.calibration, at, width, base));
  for (const { score, kind, chosen } of marks) svg.append(mark(at(score), kind, chosen, base));
  if (limit !== null) svg.append(...threshold(limit, facts.threshold, width, base));
  return svg;
}

/** The sides of the threshold, tinted. */
function sides(limit, width, base) {
  const box = (from, to, kind) =>
    node("rect", {
      x: from,
      y: TOP,
      width: Math.max(0, to - from),
      height: base - TOP,
      class: `side ${kind}`,
    });
  if (limit === null) return [box(EDGE, width - EDGE, "scored")];
  return [box(EDGE, limit, "in"), box(limit, width - EDGE, "out")];
}

function histogram(scores, at, width, base) {
  if (!scores.length) return [];
  const counts = new Array(BINS).fill(0);
  const wide = (width - 2 * EDGE) / BINS;
  for (const score of scores) {
    counts[Math.max(0, Math.min(BINS - 1, Math.floor((at(score) - EDGE) / wide)))] += 1;
  }
  const most = Math.max(...counts);
  return counts.map((count, bin) => {
    const height = (count / most) * (base - TOP - 4);
    const place = { x: EDGE + bin * wide + 0.5, y: base - height, width: wide - 1, height };
    return node("rect", { ...place, class: "bar" });
  });
}

function threshold(limit, value, width, base) {
  const anchor = limit < 0.25 * width ? "start" : limit > 0.75 * width ? "end" : "middle";
  return [
    node("line", { x1: limit, x2: limit, y1: TOP - 4, y2: base + 4, class: "threshold" }),
    node("text", { x: limit, y: 11, "text-anchor": anchor }, `threshold ${number(value)}`),
  ];
}

function mark(x, kind, chosen, base) {
  if (!chosen)
    return node("line", { x1: x, x2: x, y1: base + 3, y2: base + 14, class: `tick ${kind}` });
  const group = node("g", { class: `pin ${kind}` });
  group.append(
    node("line", { x1: x, x2: x, y1: TOP + 4, y2: base }),
    node("path", { d: `M${x} ${base + 1}l8 14h-16z` }),
  );
  return group;
}

function node(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
