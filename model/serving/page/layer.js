/**
 * Lines of segments as elements: the coloured layer under the editor, and the cards of the drafts.
 *
 * Only textContent is ever set: what a model wrote, and what a repository is called, is never read as HTML.
 *
 * @typedef {import("./segments.js").Segment} Segment
 */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [className]
 * @param {...(Node|string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * @param {Segment} segment
 * @param {number} index of it in its line
 * @param {Segment[]} line
 */
function segmentElement({ text, kind, level, mark, copy, begins, reason }, index, line) {
  if (reason) {
    const refused = element("del", "", text);
    refused.title = reason;
    return refused;
  }
  const isBlank = !text.trim();
  const classes = [
    kind && `k-${kind}`,
    level >= 0 && `t${level}`,
    level >= 0 && isBlank && "blank",
    isBlank && line.slice(0, index).every((before) => !before.text.trim()) && "indent",
    copy >= 0 && !isBlank && "copied",
  ].filter(Boolean);
  if (!classes.length) return document.createTextNode(text);
  const span = element("span", classes.join(" "), text);
  if (mark >= 0) span.dataset.mark = String(mark);
  if (begins) span.dataset.copy = String(copy + 1);
  return span;
}

/**
 * One line; an empty one keeps its height.
 * @param {Segment[]} segments
 */
export function lineElement(segments) {
  const line = element("div", "line", ...segments.map(segmentElement));
  if (!segments.length) line.append(element("br"));
  return line;
}

/** The lines of an element, of which only those that changed are made anew. */
export class Lines {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {string[]} */
    this.shown = [];
  }

  /**
   * @param {Segment[][]} lines
   * @param {number} [wrong] the index of a line to mark as wrong
   */
  show(lines, wrong = -1) {
    lines.forEach((segments, index) => {
      const key = JSON.stringify([index === wrong, segments]);
      if (this.shown[index] === key) return;
      const line = lineElement(segments);
      if (index === wrong) line.classList.add("wrong-line");
      const old = this.root.children[index];
      if (old) old.replaceWith(line);
      else this.root.append(line);
      this.shown[index] = key;
    });
    while (this.root.children.length > lines.length) this.root.lastElementChild.remove();
    this.shown.length = lines.length;
  }
}
