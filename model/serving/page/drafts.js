/** Completions beside each other: several samples, ranked, or the same seed with the judge and without. */

import { Completion } from "./doc.js";
import { element, Lines } from "./layer.js";
import { percent } from "./odds.js";
import { linesOf } from "./segments.js";
import { lineOf } from "./why.js";

const LINES_BEFORE = 2; // of the prompt, above what is new

/**
 * @typedef {import("./doc.js").Doc} Doc
 * @typedef {import("./api.js").Judgement} Judgement
 */

/** One completion on a card. */
class Draft {
  /**
   * @param {string} title
   * @param {Doc} doc
   * @param {number} at
   * @param {(draft: Draft) => void} use
   */
  constructor(title, doc, at, use) {
    this.completion = new Completion(doc, at);
    this.firstLine = Math.max(lineOf(doc.text, at) - 1 - LINES_BEFORE, 0);
    this.title = element("h3", "", title);
    this.verdict = element("p", "verdict waiting", "waiting");
    this.code = element("pre", "layer still");
    this.code.style.counterReset = `line ${this.firstLine}`;
    this.lines = new Lines(this.code);
    this.score = element("span", "fine");
    this.use = element("button", "", "Use this one");
    this.use.type = "button";
    this.use.disabled = true;
    this.use.addEventListener("click", () => use(this));
    this.card = element("article", "card", this.title, this.verdict, this.code, element("div", "card-foot", this.use, this.score));
    /** @type {Judgement|null} */
    this.judgement = null;
    this.show();
  }

  show() {
    const wrong = this.judgement && !isPython(this.judgement) ? (this.judgement.line ?? 0) - 1 : -1;
    this.lines.show(linesOf(this.completion.doc, false).slice(this.firstLine), wrong - this.firstLine);
  }

  /** @param {import("./api.js").Choice} choice */
  add(choice) {
    this.completion.add(choice);
    this.verdict.textContent = "writing";
    this.show();
  }

  /** @param {Judgement} judgement of the whole text */
  finish(judgement) {
    this.judgement = judgement;
    const { last } = this.completion;
    const { mark, words } = verdictOf(judgement);
    this.verdict.className = `verdict ${mark}`;
    this.verdict.textContent = words;
    if (Number.isFinite(last?.score)) this.score.textContent = `a token was ${percent(last.score)} likely on average`;
    this.use.disabled = false;
    this.show();
  }

  /**
   * For ranking: what compiles before what only breaks off, then the server's order (it sees loops and names that
   * nobody defined), else what the model itself finds likelier.
   */
  get rank() {
    const { judgement, completion } = this;
    const isGood = judgement?.valid ? 2 : judgement?.unfinished ? 1 : 0;
    return [isGood, -(completion.last?.rank ?? Infinity), completion.last?.score ?? -Infinity];
  }
}

export class Drafts {
  /**
   * @param {HTMLElement} section
   * @param {(doc: Doc, caret: number) => void} use puts a draft into the editor
   */
  constructor(section, use) {
    this.section = section;
    this.title = section.querySelector("h2");
    this.cards = section.querySelector(".cards");
    this.put = use;
    /** @type {Draft[]} */
    this.drafts = [];
    section.querySelector("button").addEventListener("click", () => this.close());
  }

  /**
   * Begin with empty cards.
   * @param {string} title
   * @param {string[]} titles one for each card
   * @param {Doc} doc
   * @param {number} at
   */
  begin(title, titles, doc, at) {
    this.title.textContent = title;
    this.drafts = titles.map((each) => new Draft(each, doc, at, (draft) => this.#use(draft)));
    this.cards.replaceChildren(...this.drafts.map(({ card }) => card));
    this.section.hidden = false;
    this.section.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  close() {
    this.section.hidden = true;
    this.drafts = [];
    this.cards.replaceChildren();
  }

  /** Put the best first, and say so. */
  rank() {
    const ranked = [...this.drafts].sort((one, other) => compare(other.rank, one.rank));
    ranked.forEach((draft, index) => {
      draft.title.textContent = index ? `${index + 1}` : "1, the best";
      draft.card.classList.toggle("best", index === 0);
    });
    this.drafts = ranked;
    this.cards.replaceChildren(...ranked.map(({ card }) => card));
  }

  /** @param {Draft} draft */
  #use(draft) {
    const { doc, end } = draft.completion;
    this.close();
    this.put(doc, end);
  }
}

/**
 * @param {number[]} one
 * @param {number[]} other
 */
function compare(one, other) {
  const index = one.findIndex((value, each) => value !== other[each]);
  return index < 0 ? 0 : one[index] - other[index];
}

/** @param {Judgement} judgement */
export function isPython({ valid, unfinished }) {
  return valid || unfinished;
}

/**
 * A judgement in words; `mark` is a class whose sign tells it without colour too.
 * @param {Judgement} judgement
 * @returns {{mark: "good"|"open"|"wrong", words: string}}
 */
export function verdictOf({ valid, unfinished, message, line }) {
  if (valid) return { mark: "good", words: "It compiles." };
  if (unfinished) return { mark: "open", words: "Unfinished: it can still become a program." };
  return { mark: "wrong", words: `Not Python${line ? `, line ${line}` : ""}: ${message ?? "invalid"}` };
}
