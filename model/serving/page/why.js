/** The panel that says why the text is as it is: what the judge refused, and what was copied from whom. */

import { element } from "./layer.js";
import { struckOut } from "./segments.js";

const MOST_SHOWN = 40; // of each kind; a text of thousands of tokens has more than anybody reads
const LONGEST_EXCERPT = 64; // characters of a copy, or of a line that was taken back
// REFUSED of model/generation/rejection.py, the commonest reason: it is said once, above the list.
const BY_GRAMMAR = "refused at once, which costs no pass";

export class Why {
  /**
   * @param {HTMLElement} body
   * @param {import("./editor.js").Editor} editor
   */
  constructor(body, editor) {
    this.body = body;
    this.editor = editor;
    this.hasSources = true; // the model brings an index of what it has learnt from
    editor.addEventListener("change", () => this.show());
    this.show();
  }

  show() {
    const { doc } = this.editor;
    if (!doc.marks.length && !doc.refusals.length && !doc.copies.length) {
      const words = "Once the model has written, this says what the judge refused, and what was copied from whom.";
      this.body.replaceChildren(element("p", "fine", words));
      return;
    }
    this.body.replaceChildren(...this.#refusals(doc), ...this.#copies(doc));
  }

  /** @param {import("./doc.js").Doc} doc */
  #refusals({ text, refusals }) {
    const count = refusals.length;
    const title = count ? `Refused: ${count}` : "Refused: nothing";
    const places = Map.groupBy(refusals, ({ at, reason }) => `${at} ${reason}`);
    const rows = [...places.values()].slice(0, MOST_SHOWN).map((here) => {
      const [{ at, reason }] = here;
      const struck = here.flatMap(({ text: token }) => [element("del", "", struckOut(token).slice(0, LONGEST_EXCERPT)), " "]);
      const words = reason === BY_GRAMMAR ? "" : `: ${reason}`;
      return this.#row(struck, `line ${lineOf(text, at)}${words}`, at, at);
    });
    const parts = section(title, rows, places.size);
    if (refusals.some(({ reason }) => reason === BY_GRAMMAR)) {
      parts.splice(1, 0, element("p", "fine", "After each of these tokens no Python program could follow."));
    }
    return parts;
  }

  /** @param {import("./doc.js").Doc} doc */
  #copies({ text, copies }) {
    const count = copies.length;
    if (!this.hasSources) {
      const words = "Not known: this model has no index of the files that it has learnt from.";
      return [element("h3", "", "Copied word for word"), element("p", "fine", words)];
    }
    const title = count ? `Copied word for word: ${count}` : "Copied word for word: nothing";
    const rows = copies.slice(0, MOST_SHOWN).map(({ start, end, repo, path, license }, index) => {
      const excerpt = text.slice(start, end).trim().split("\n")[0].slice(0, LONGEST_EXCERPT);
      const from = `${[repo, path].filter(Boolean).join("/")} · ${license || "licence unknown"}`;
      return this.#row([element("sup", "", String(index + 1)), " ", element("code", "", excerpt)], from, start, end);
    });
    return section(title, rows, count);
  }

  /**
   * @param {(Node|string)[]} what
   * @param {string} words
   * @param {number} start
   * @param {number} end
   */
  #row(what, words, start, end) {
    const button = element("button", "reason", element("span", "what", ...what), element("span", "where", words));
    button.type = "button";
    button.addEventListener("click", () => this.editor.select(start, end));
    return element("li", "", button);
  }
}

/**
 * @param {string} title
 * @param {HTMLLIElement[]} rows
 * @param {number} count of all, shown or not
 */
function section(title, rows, count) {
  const parts = [element("h3", "", title)];
  if (rows.length) parts.push(element("ul", "reasons", ...rows));
  if (count > rows.length) parts.push(element("p", "fine", `and ${count - rows.length} more`));
  return parts;
}

/**
 * @param {string} text
 * @param {number} at
 */
export function lineOf(text, at) {
  return text.slice(0, at).split("\n").length;
}
