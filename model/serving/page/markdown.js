/**
 * The markdown of a model card as elements: headings, paragraphs, lists, tables, code, links.
 *
 * A card may come from anybody who gave away a model, so nothing of it is read as HTML, links lead only to the web,
 * and pictures are left to the caller as <span data-image="loss.png">.
 */

import { element } from "./layer.js";

const INLINE = /`(?<code>[^`]+)`|\*\*(?<bold>[^*]+)\*\*|!\[(?<alt>[^\]]*)\]\((?<image>[^)\s]+)\)|\[(?<label>[^\]]+)\]\((?<target>[^)\s]+)\)/g;

/**
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function markdown(text) {
  const made = document.createDocumentFragment();
  // the YAML block at the top is for the Hub
  const lines = text.replace(/^---\r?\n[^]*?\n---\r?\n/, "").split(/\r?\n/);
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const heading = line.match(/^(#{1,6})\s+(.*)$/);
    if (!line.trim()) {
      at += 1;
    } else if (line.startsWith("```")) {
      const end = lines.findIndex((other, index) => index > at && other.startsWith("```"));
      const stop = end < 0 ? lines.length : end;
      made.append(element("pre", "", element("code", "", lines.slice(at + 1, stop).join("\n"))));
      at = stop + 1;
    } else if (heading) {
      made.append(element(`h${heading[1].length}`, "", ...inline(heading[2])));
      at += 1;
    } else {
      const [kind, make] = BLOCKS.find(([begins]) => begins.test(line));
      const from = at;
      do at += 1;
      while (at < lines.length && lines[at].trim() && goesOn(kind, lines[at]));
      made.append(make(lines.slice(from, at)));
    }
  }
  return made;
}

/** @type {[RegExp, (lines: string[]) => Node][]} the last one takes everything */
const BLOCKS = [
  [/^\|/, table],
  [/^\s*(?:[*-]|\d+\.)\s/, list],
  [/^/, (lines) => element("p", "", ...inline(lines.join(" ")))],
];

/**
 * Whether a line belongs to the block above it.
 * @param {RegExp} kind
 * @param {string} line
 */
function goesOn(kind, line) {
  if (/^(?:#|```)/.test(line)) return false;
  const own = BLOCKS.find(([begins]) => begins.test(line))[0];
  return own === kind || (kind === BLOCKS[1][0] && own === BLOCKS[2][0]); // an item goes over several lines
}

/** @param {string[]} lines */
function table(lines) {
  const rows = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim()));
  const made = element("table");
  rows.forEach((cells, index) => {
    if (cells.every((cell) => /^:?-+:?$/.test(cell))) return;
    const isHead = index === 0;
    if (isHead && cells.every((cell) => !cell)) return;
    const tag = isHead ? "th" : "td";
    made.append(element("tr", "", ...cells.map((cell) => element(tag, "", ...inline(cell.replaceAll("\\|", "|"))))));
  });
  return element("div", "wide", made);
}

/** @param {string[]} lines */
function list(lines) {
  const items = [];
  for (const line of lines) {
    const item = line.match(/^\s*(?:[*-]|\d+\.)\s+(.*)$/);
    if (item) items.push(item[1]);
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  const tag = /^\s*\d/.test(lines[0]) ? "ol" : "ul";
  return element(tag, "", ...items.map((item) => element("li", "", ...inline(item))));
}

/**
 * @param {string} text
 * @returns {(Node|string)[]}
 */
function inline(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(end, match.index), piece(match.groups));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

/** @param {Object<string, string|undefined>} groups */
function piece({ code, bold, alt, image, label, target }) {
  if (code !== undefined) return element("code", "", code);
  if (bold !== undefined) return element("strong", "", bold);
  if (image !== undefined) {
    const place = element("span", "", alt ?? "");
    place.dataset.image = image;
    return place;
  }
  if (!/^https?:\/\//.test(target)) return element("span", "", label); // a file beside the card
  const link = element("a", "", label);
  link.href = target;
  link.rel = "noreferrer";
  link.target = "_blank";
  return link;
}
