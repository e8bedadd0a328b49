/** The line under the editor: what CPython says of the text as it stands. */

import { ApiError, judge } from "./api.js";
import { isPython, verdictOf } from "./drafts.js";

const PAUSE = 450; // milliseconds without a key before the text is judged

export class Verdict {
  /**
   * @param {HTMLElement} line
   * @param {import("./editor.js").Editor} editor
   */
  constructor(line, editor) {
    this.line = line;
    this.words = line.querySelector("span");
    this.editor = editor;
    this.timer = 0;
    this.controller = new AbortController();
    editor.addEventListener("edit", () => this.later());
  }

  /** Judge once nobody types. */
  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), PAUSE);
  }

  /** Say that the text is being written, which needs no judgement yet. */
  writing() {
    clearTimeout(this.timer);
    this.controller.abort();
    this.#show("waiting", "Writing");
  }

  /**
   * Judge what the editor holds.
   * @returns {Promise<import("./api.js").Judgement|null>} null where the text changed meanwhile or nobody answered
   */
  async now() {
    clearTimeout(this.timer);
    this.controller.abort();
    this.controller = new AbortController();
    const { text } = this.editor.doc;
    try {
      const judgement = await judge(text, this.controller.signal);
      if (text !== this.editor.doc.text) return null;
      this.show(judgement);
      return judgement;
    } catch (error) {
      if (error.name !== "AbortError") this.#show("waiting", error instanceof ApiError ? error.message : "");
      return null;
    }
  }

  /** @param {import("./api.js").Judgement} judgement */
  show(judgement) {
    const { mark, words } = verdictOf(judgement);
    this.#show(mark, this.editor.doc.text.trim() ? words : "An empty file.");
    this.editor.markWrong(isPython(judgement) ? 0 : (judgement.line ?? 0));
  }

  /**
   * @param {string} mark
   * @param {string} words
   */
  #show(mark, words) {
    this.line.className = `verdict ${mark}`;
    if (this.words.textContent !== words) this.words.textContent = words;
  }
}
