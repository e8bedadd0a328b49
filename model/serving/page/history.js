/**
 * Undo and redo of whole Docs, so that a completion is taken back in one step, tints included.
 *
 * The browser's own undo loses its way as soon as a script changes a text field, so the editor does not use it.
 *
 * @typedef {import("./doc.js").Doc} Doc
 * @typedef {{doc: Doc, caret: number}} State
 */

const TYPING_PAUSE = 900; // milliseconds: what is typed with shorter pauses is undone together
const MOST_STATES = 300;

export class History {
  /** @param {State} state */
  constructor(state) {
    /** @type {State[]} */
    this.past = [];
    /** @type {State[]} */
    this.future = [];
    this.present = state;
    this.typedAt = -Infinity; // performance.now() begins at 0 when the page is loaded
  }

  /**
   * Remember a new state.
   * @param {State} state
   * @param {boolean} isTyping may be joined with what was typed a moment ago
   */
  push(state, isTyping = false) {
    const now = performance.now();
    if (!isTyping || now - this.typedAt > TYPING_PAUSE) {
      this.past.push(this.present);
      if (this.past.length > MOST_STATES) this.past.shift();
    }
    this.typedAt = isTyping ? now : -Infinity;
    this.present = state;
    this.future = [];
  }

  /** @returns {State|null} the state before, null where there is none */
  undo() {
    return this.#step(this.past, this.future);
  }

  /** @returns {State|null} */
  redo() {
    return this.#step(this.future, this.past);
  }

  /**
   * @param {State[]} from
   * @param {State[]} to
   */
  #step(from, to) {
    const state = from.pop();
    if (!state) return null;
    to.push(this.present);
    this.present = state;
    this.typedAt = -Infinity;
    return state;
  }
}
