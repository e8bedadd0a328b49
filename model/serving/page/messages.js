/** What the page says below the editor: how a completion went, and what went wrong, each with what can be done. */

import { element } from "./layer.js";

/** @typedef {[string, () => void][]} Actions their names and what they do */

export class Messages {
  /**
   * @param {HTMLElement} summary
   * @param {HTMLElement} notice
   */
  constructor(summary, notice) {
    this.summary = summary;
    this.box = notice;
  }

  /**
   * @param {string} words
   * @param {Actions} [actions]
   */
  say(words, actions = []) {
    this.summary.replaceChildren(words, ...actions.map((action) => this.#button(action)));
  }

  /**
   * Something that went wrong.
   * @param {string} words
   * @param {Actions} actions
   */
  notice(words, actions) {
    this.say("");
    this.box.replaceChildren(element("p", "", words), ...actions.map((action) => this.#button(action)));
    this.box.hidden = false;
  }

  /** Add to the summary what those who cannot see the sign beside the editor have to hear. */
  speak(/** @type {string} */ words) {
    this.summary.append(element("span", "unseen", ` ${words}`));
  }

  hideNotice() {
    this.box.hidden = true;
  }

  /** @param {Actions[number]} action */
  #button([name, act]) {
    const button = element("button", "link", name);
    button.type = "button";
    button.addEventListener("click", () => {
      this.hideNotice();
      act();
    });
    return button;
  }
}

/**
 * @param {import("./writer.js").Outcome} outcome
 * @returns {string} "96 tokens in 0.4 s · the judge refused 7 · seed 1."
 */
export function outcomeInWords({ tokens, seconds, refused, copies, seed, judged, stopped, ended }) {
  const facts = [`${stopped ? "Stopped after " : ""}${counted(tokens, "token")} in ${seconds.toFixed(1)} s`];
  if (ended) facts.push("the model ended the text");
  facts.push(judged ? `the judge refused ${refused || "nothing"}` : "without the judge");
  if (copies) facts.push(`${counted(copies, "passage")} copied`);
  return `${facts.join(" · ")} · seed ${seed}.`;
}

/**
 * @param {number} number
 * @param {string} noun counted(1, "token") -> "1 token"
 */
function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** @param {number} count 1800000 -> "1.8 M" */
export function shortNumber(count) {
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)} G` : `${(count / 1e6).toFixed(1)} M`;
}
