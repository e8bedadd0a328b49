/**
 * A Doc cut into lines of segments, each of which looks the same from its first to its last character.
 *
 * @typedef {import("./doc.js").Doc} Doc
 * @typedef {{text: string, kind: string, level: number, mark: number, copy: number, begins: boolean, reason: string}} Segment
 *   level: 0 likely to 3 surprising, -1 not the model's; mark, copy: their indices, -1 for none; begins: the copy
 *   begins here; reason: why the judge refused it, for a text that is not in the Doc
 */

import { syntaxTokens } from "./highlight.js";

// Of probability: at least an even chance, one in ten, one in a hundred, less.
const LEVELS = [Math.log(0.5), Math.log(0.1), Math.log(0.01)];
const LONGEST_REFUSED = 60; // characters of a refused line that are shown

/** @param {number} logprob */
export function levelOf(logprob) {
  const level = LEVELS.findIndex((limit) => logprob >= limit);
  return level < 0 ? LEVELS.length : level;
}

/**
 * @param {Doc} doc
 * @param {boolean} withRefused also show what was refused, where it was
 * @returns {Segment[][]} one list for each line; line ends are in none
 */
export function linesOf(doc, withRefused) {
  const { text, marks, copies } = doc;
  const syntax = syntaxTokens(text);
  const refusals = withRefused ? [...doc.refusals].sort((one, other) => one.at - other.at) : [];
  const cuts = [...new Set([
    0,
    text.length,
    ...syntax.flatMap(({ start, end }) => [start, end]),
    ...marks.flatMap(({ start, end }) => [start, end]),
    ...copies.flatMap(({ start, end }) => [start, end]),
    ...refusals.map(({ at }) => at),
  ])].sort((one, other) => one - other);
  const kindAt = finder(syntax);
  const markAt = finder(marks);
  const copyAt = finder([...copies].sort((one, other) => one.start - other.start), copies);

  /** @type {Segment[][]} */
  const lines = [[]];
  const begun = new Set(); // copies whose first segment that is not blank has been
  let refused = 0;
  cuts.forEach((cut, index) => {
    for (; refused < refusals.length && refusals[refused].at <= cut; refused += 1) {
      lines.at(-1).push(refusedSegment(refusals[refused]));
    }
    const end = cuts[index + 1] ?? cut;
    const kind = syntax[kindAt(cut)]?.kind ?? "";
    const mark = markAt(cut);
    const copy = copyAt(cut);
    const level = mark < 0 ? -1 : levelOf(marks[mark].logprob);
    text.slice(cut, end).split("\n").forEach((part, piece) => {
      if (piece > 0) lines.push([]);
      if (!part) return;
      const begins = copy >= 0 && part.trim() !== "" && !begun.has(copy);
      if (begins) begun.add(copy);
      lines.at(-1).push({ text: part, kind, level, mark, copy, begins, reason: "" });
    });
  });
  return lines;
}

/** @param {import("./doc.js").Refusal} refusal */
function refusedSegment({ text, reason }) {
  const short = text.length > LONGEST_REFUSED ? `${text.slice(0, LONGEST_REFUSED)}…` : text;
  return { text: struckOut(short), kind: "", level: -1, mark: -1, copy: -1, begins: false, reason: reason || "refused" };
}

/**
 * A function that finds the span at a position, for positions that only grow.
 * @param {{start: number, end: number}[]} spans in order
 * @param {{start: number, end: number}[]} [named] the same spans in the order in which they are counted
 * @returns {(position: number) => number} its index, -1 where there is none
 */
function finder(spans, named = spans) {
  let next = 0;
  return (position) => {
    while (next < spans.length && spans[next].end <= position) next += 1;
    const span = spans[next];
    if (!span || span.start > position) return -1;
    return named === spans ? next : named.indexOf(span);
  };
}

/**
 * A refused text as it is shown: its first blank is that before every word, and says nothing.
 * @param {string} text
 */
export function struckOut(text) {
  return visible(text.replace(/^ (?=\S)/, ""));
}

/**
 * A token in which blanks can be seen.
 * @param {string} text
 */
export function visible(text) {
  return text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍").replace(/ /g, "·");
}
