/**
 * The editor: a text field whose own letters are invisible, over a layer that shows the same text in colours.
 *
 * The field does the editing, selecting and speaking; the layer sets the height, so nothing has to scroll with
 * anything. With the refused tokens the layer has more text than the field: then it is read only, and the field
 * comes back with the next key.
 */

import { edited, plain } from "./doc.js";
import { History } from "./history.js";
import { Lines } from "./layer.js";
import { linesOf } from "./segments.js";

const INDENT = "    ";

/** @typedef {import("./doc.js").Doc} Doc */

export class Editor extends EventTarget {
  // Events: "edit", the user changed the text; "change", the text is another, for whatever reason; "caret";
  // "reading", the refused tokens are shown or no longer.

  /**
   * @param {HTMLTextAreaElement} field
   * @param {HTMLElement} layer
   * @param {HTMLElement} scroller
   */
  constructor(field, layer, scroller) {
    super();
    this.field = field;
    this.layer = layer;
    this.scroller = scroller;
    this.lines = new Lines(layer);
    /** @type {Doc} */
    this.doc = plain(field.value);
    this.history = new History({ doc: this.doc, caret: 0 });
    this.wrongLine = -1;
    this.isReading = false;
    field.addEventListener("input", () => this.#edit());
    field.addEventListener("beforeinput", (event) => this.#beforeInput(event));
    field.addEventListener("keydown", (event) => this.#key(event));
    layer.addEventListener("keydown", (event) => {
      if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) this.setReading(false);
    });
    document.addEventListener("selectionchange", () => {
      if (document.activeElement === field) this.#tell("caret");
    });
    this.show();
  }

  get caret() {
    return this.field.selectionStart;
  }

  /** Whether the user may type now; not while the model writes. */
  set locked(/** @type {boolean} */ isLocked) {
    this.field.readOnly = isLocked;
    this.scroller.classList.toggle("locked", isLocked);
  }

  get locked() {
    return this.field.readOnly;
  }

  /**
   * Show another Doc.
   * @param {Doc} doc
   * @param {number} caret
   * @param {boolean} [isStep] undo leads back to what was there
   */
  set(doc, caret, isStep = false) {
    this.doc = doc;
    if (isStep) this.history.push({ doc, caret });
    if (this.field.value !== doc.text) this.field.value = doc.text;
    this.field.setSelectionRange(caret, caret);
    this.wrongLine = -1;
    this.show();
    this.#tell("change");
  }

  /** @param {"undo"|"redo"} way */
  step(way) {
    const state = this.history[way]();
    if (state) this.set(state.doc, Math.min(state.caret, state.doc.text.length));
  }

  show() {
    this.lines.show(linesOf(this.doc, this.isReading), this.wrongLine);
  }

  /** @param {number} line from 1; 0 for none */
  markWrong(line) {
    this.wrongLine = line - 1;
    this.show();
  }

  /** @param {boolean} isReading show the refused tokens, between those that were taken */
  setReading(isReading) {
    if (this.isReading === isReading) return;
    const hadFocus = document.activeElement === this.field || document.activeElement === this.layer;
    this.isReading = isReading;
    this.field.hidden = isReading;
    if (isReading) {
      this.layer.removeAttribute("aria-hidden");
      this.layer.tabIndex = 0;
      this.layer.setAttribute("role", "region");
      this.layer.setAttribute("aria-label", "The text with the refused tokens, to read");
    } else {
      this.layer.setAttribute("aria-hidden", "true");
      for (const name of ["tabindex", "role", "aria-label"]) this.layer.removeAttribute(name);
    }
    this.show();
    if (hadFocus) (isReading ? this.layer : this.field).focus({ preventScroll: true });
    this.#tell("reading");
  }

  /** Keep what is being written in view, without moving the page. */
  follow() {
    const newest = [...this.layer.querySelectorAll("[data-mark]")].at(-1);
    if (!newest) return;
    const below = newest.getBoundingClientRect().bottom - this.scroller.getBoundingClientRect().bottom + 24;
    if (below > 0) this.scroller.scrollTop += below;
  }

  /**
   * Select a part and bring it into view.
   * @param {number} start
   * @param {number} end
   */
  select(start, end) {
    this.setReading(false);
    this.field.focus({ preventScroll: true });
    this.field.setSelectionRange(start, end);
    this.#lineAt(start)?.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  /** The index of the token at a point of the window, -1 where there is none. */
  markAtPoint(/** @type {number} */ x, /** @type {number} */ y) {
    for (const found of document.elementsFromPoint(x, y)) {
      if (found instanceof HTMLElement && found.dataset.mark && this.layer.contains(found)) return Number(found.dataset.mark);
    }
    return -1;
  }

  /** The index of the token that the caret stands before or in, -1 for none. */
  markAtCaret() {
    const { caret } = this;
    return this.doc.marks.findIndex(({ start, end }) => start <= caret && caret < end);
  }

  /** @param {number} mark @returns {DOMRect|null} where it is in the window */
  placeOf(mark) {
    return this.layer.querySelector(`[data-mark="${mark}"]`)?.getClientRects()[0] ?? null;
  }

  #edit(isTyping = true) {
    this.doc = edited(this.doc, this.field.value);
    this.history.push({ doc: this.doc, caret: this.caret }, isTyping);
    this.wrongLine = -1;
    this.show();
    this.#tell("edit");
    this.#tell("change");
  }

  /** @param {InputEvent} event */
  #beforeInput(event) {
    if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
      event.preventDefault();
      if (!this.locked) this.step(event.inputType === "historyUndo" ? "undo" : "redo");
    } else if (event.inputType === "insertFromPaste" && !this.locked) {
      // The browser's own way takes seconds for a long text, as it builds an undo history that nobody reads.
      const text = event.data ?? event.dataTransfer?.getData("text/plain");
      if (!text) return;
      event.preventDefault();
      this.#insert(text.replace(/\r\n?/g, "\n"), false);
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (this.locked) return;
    const isCommand = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (isCommand && !event.altKey && (key === "z" || key === "y")) {
      event.preventDefault();
      this.step(key === "y" || event.shiftKey ? "redo" : "undo");
    } else if (event.key === "Enter" && !isCommand && !event.altKey && !event.isComposing) {
      event.preventDefault();
      this.#newLine();
    }
  }

  /** A new line that is indented as the one before, and further after a colon. */
  #newLine() {
    const line = this.field.value.slice(0, this.caret).split("\n").at(-1);
    const indent = line.match(/^[ \t]*/)[0] + (/:\s*(#.*)?$/.test(line) ? INDENT : "");
    this.#insert(`\n${indent}`, true);
  }

  /**
   * @param {string} text in the place of what is selected
   * @param {boolean} isTyping
   */
  #insert(text, isTyping) {
    this.field.setRangeText(text, this.caret, this.field.selectionEnd, "end");
    this.#edit(isTyping);
    const below = this.#lineAt(this.caret)?.getBoundingClientRect().bottom - this.scroller.getBoundingClientRect().bottom;
    if (below > 0) this.scroller.scrollTop += below;
  }

  /** @param {number} position @returns {Element|undefined} the line of the layer that it is in */
  #lineAt(position) {
    return this.layer.children[this.doc.text.slice(0, position).split("\n").length - 1];
  }

  /** @param {string} type */
  #tell(type) {
    this.dispatchEvent(new Event(type));
  }
}
