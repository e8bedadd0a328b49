/**
 * The small window at a token: the five likeliest there, which one was taken, and what the judge refused before.
 * It opens under the pointer, or follows the caret while it is told to.
 */

import { element } from "./layer.js";
import { struckOut, visible } from "./segments.js";

const MARGIN = 8; // pixels to the edge of the window

/** @param {number} logprob "41 %", "0.3 %" */
export function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  if (value >= 1) return `${Math.min(Math.round(value), 100)} %`;
  return value >= 0.1 ? `${value.toFixed(1)} %` : "< 0.1 %";
}

export class Odds {
  /**
   * @param {HTMLElement} root
   * @param {import("./editor.js").Editor} editor
   * @param {(mark: number, token: string) => void} takeInstead
   */
  constructor(root, editor, takeInstead) {
    this.root = root;
    this.editor = editor;
    this.takeInstead = takeInstead;
    this.followsCaret = false;
    this.mark = -1;
    this.closing = 0;
    const { scroller } = editor;
    scroller.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !event.buttons) this.#point(editor.markAtPoint(event.clientX, event.clientY));
    });
    scroller.addEventListener("pointerleave", () => this.#leave());
    root.addEventListener("pointerenter", () => clearTimeout(this.closing));
    root.addEventListener("pointerleave", () => this.#leave());
    scroller.addEventListener("scroll", () => this.hide(), { passive: true });
    window.addEventListener("scroll", () => this.#place(), { passive: true });
    editor.addEventListener("caret", () => this.#atCaret());
    editor.addEventListener("change", () => (this.followsCaret ? this.#atCaret() : this.hide()));
  }

  get isOpen() {
    return !this.root.hidden;
  }

  /** @param {boolean} follows */
  setFollows(follows) {
    this.followsCaret = follows;
    this.root.classList.toggle("follows", follows);
    if (follows) this.root.setAttribute("aria-live", "polite");
    else this.root.removeAttribute("aria-live");
    this.hide();
    this.#atCaret();
  }

  hide() {
    clearTimeout(this.closing);
    this.root.hidden = true;
    this.#choose(-1);
  }

  /** Show which token the window speaks of. */
  #choose(/** @type {number} */ mark) {
    this.editor.layer.querySelectorAll(".current").forEach((span) => span.classList.remove("current"));
    this.editor.layer.querySelectorAll(`[data-mark="${mark}"]`).forEach((span) => span.classList.add("current"));
    this.mark = mark;
  }

  #atCaret() {
    if (!this.followsCaret) return;
    const mark = this.editor.markAtCaret();
    if (mark >= 0) this.#open(mark);
    else this.#openEmpty();
  }

  /** @param {number} mark under the pointer */
  #point(mark) {
    if (mark === this.mark && this.isOpen) return clearTimeout(this.closing);
    if (mark < 0) return this.#leave();
    this.#open(mark);
  }

  /** Close in a moment, so that the pointer can reach the window. */
  #leave() {
    clearTimeout(this.closing);
    this.closing = setTimeout(() => (this.followsCaret ? this.#atCaret() : this.hide()), 160);
  }

  /** @param {number} index */
  #open(index) {
    clearTimeout(this.closing);
    const { doc } = this.editor;
    const mark = doc.marks[index];
    if (!mark) return this.hide();
    this.#choose(index);
    const { text, logprob, top } = mark;
    const list = element("ol");
    for (const [token, value] of top) list.append(this.#row(token, value, token === text, index));
    if (!top.some(([token]) => token === text)) {
      list.append(element("li", "rest", element("span", "", "less likely than these:")));
      list.append(this.#row(text, logprob, true, index));
    }
    const refused = doc.refusals.filter(({ at }) => at === mark.start);
    const parts = [element("p", "odds-title", "The likeliest tokens here"), list];
    if (refused.length) {
      const texts = refused.slice(0, 3).flatMap(({ text: token }) => [element("del", "", struckOut(token).slice(0, 24)), " "]);
      const more = refused.length > 3 ? `and ${refused.length - 3} more` : "";
      parts.push(element("p", "odds-refused", "The judge refused ", ...texts, more));
    }
    this.root.replaceChildren(...parts);
    this.root.hidden = false;
    this.#place();
  }

  #openEmpty() {
    this.#choose(-1);
    this.root.replaceChildren(element("p", "odds-title", "The caret is in no token of the model's."));
    this.root.hidden = false;
    this.#place();
  }

  /**
   * @param {string} token
   * @param {number} logprob
   * @param {boolean} isTaken
   * @param {number} index of the mark
   */
  #row(token, logprob, isTaken, index) {
    const share = element("span", "share");
    share.style.inlineSize = `${Math.max(100 * Math.exp(logprob), 1)}%`;
    const words = [
      share,
      element("code", "", visible(token) || "(end of text)"),
      element("span", "percent", percent(logprob)),
    ];
    if (isTaken) {
      return element("li", "taken", element("div", "row", ...words, element("span", "tick", "taken")));
    }
    const button = element("button", "row", ...words);
    button.type = "button";
    button.title = "Write this one instead, and go on from there";
    // half a character, or the end of the text: nothing that could be written
    button.disabled = !token || token.startsWith("bytes:") || token.startsWith("<|");
    button.addEventListener("click", () => this.takeInstead(index, token));
    return element("li", "", button);
  }

  /** Under the token, or above it where there is no room, inside of the window. */
  #place() {
    if (!this.isOpen || !this.root.offsetParent) return; // another tab may be shown
    const at = this.editor.placeOf(this.mark);
    const box = this.root.offsetParent.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.root;
    if (!at) {
      this.root.style.insetInlineStart = `${box.width - width - MARGIN}px`;
      this.root.style.insetBlockStart = `${MARGIN}px`;
      return;
    }
    const left = Math.max(MARGIN, Math.min(at.left, document.documentElement.clientWidth - width - MARGIN));
    const isBelow = at.bottom + height + MARGIN < window.innerHeight || at.top - height < MARGIN;
    const top = isBelow ? at.bottom + 2 : at.top - height - 2;
    this.root.style.insetInlineStart = `${left - box.left}px`;
    this.root.style.insetBlockStart = `${top - box.top}px`;
  }
}
