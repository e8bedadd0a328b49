/**
 * Runs completions: from the settings and the place in the text to what stands in the editor or on the cards.
 * One runs at a time; whatever ends it, what had arrived is kept and can be undone.
 */

import { completions, judge } from "./api.js";
import { Completion } from "./doc.js";
import { isPython } from "./drafts.js";

const LIKELIEST = 5; // alternatives of each token

/**
 * @typedef {import("./doc.js").Doc} Doc
 * @typedef {{doc: Doc, at: number, seed: number}} Task where in which text, and the seed
 * @typedef {{tokens: number, seconds: number, refused: number, copies: number, seed: number, judged: boolean,
 *   stopped: boolean, ended: boolean}} Outcome
 * @typedef {object} Listener what the page shows of a run
 * @property {(isRunning: boolean) => void} running
 * @property {(seconds: number) => void} waiting the server is busy for so long
 * @property {(note: string) => void} noted what the server remarks
 * @property {(outcome: Outcome) => void} wrote into the editor
 * @property {(count: number, seconds: number, stopped: boolean) => void} compared on cards
 * @property {(error: Error, again: () => void) => void} failed
 * @property {(judgement: import("./api.js").Judgement, withoutJudge: () => void) => void} notPython
 */

export class Writer {
  /**
   * @param {import("./editor.js").Editor} editor
   * @param {import("./settings.js").SettingsForm} settings
   * @param {import("./drafts.js").Drafts} drafts
   * @param {Listener} listener
   */
  constructor(editor, settings, drafts, listener) {
    this.editor = editor;
    this.settings = settings;
    this.drafts = drafts;
    this.listener = listener;
    /** @type {AbortController|null} */
    this.controller = null;
    /** @type {Task|null} */
    this.last = null;
  }

  get isRunning() {
    return this.controller !== null;
  }

  stop() {
    this.controller?.abort();
  }

  /**
   * Write at a place, as the settings say.
   * @param {number} at
   */
  write(at) {
    const task = { doc: this.editor.doc, at, seed: this.settings.seed() };
    const { judge: judging, samples } = this.settings.value;
    if (judging === "both") return this.sideBySide(task);
    const isJudged = judging === "on";
    return samples > 1 ? this.several(task, samples, isJudged) : this.one(task, isJudged);
  }

  /**
   * Into the editor.
   * @param {Task} task
   * @param {boolean} isJudged
   */
  one(task, isJudged) {
    return this.#run(task, isJudged, () => this.one(task, isJudged), () => this.one(task, false), async (signal) => {
      const { editor } = this;
      const began = performance.now();
      const completion = new Completion(task.doc, task.at);
      const draw = eachFrame(() => {
        editor.set(completion.doc, completion.end);
        editor.follow();
      });
      try {
        for await (const choice of this.#stream(task, { valid: isJudged }, signal)) {
          completion.add(choice);
          draw.soon();
        }
      } finally {
        draw.cancel();
        if (completion.text) editor.set(completion.doc, completion.end, true);
        else editor.set(task.doc, task.at);
        editor.follow();
      }
      return () => this.listener.wrote(outcomeOf(completion, task, isJudged, began, signal.aborted));
    });
  }

  /**
   * On cards, the best first.
   * @param {Task} task
   * @param {number} count
   * @param {boolean} isJudged
   */
  several(task, count, isJudged) {
    const again = () => this.several(task, count, isJudged);
    return this.#run(task, isJudged, again, () => this.several(task, count, false), async (signal) => {
      const began = performance.now();
      const titles = Array.from({ length: count }, (_, index) => `Sample ${index + 1}`);
      this.drafts.begin(`${count} samples, seed ${task.seed}`, titles, task.doc, task.at);
      await this.#fill(this.drafts.drafts, task, { valid: isJudged, n: count, best: true }, signal);
      this.drafts.rank();
      return () => this.listener.compared(count, (performance.now() - began) / 1000, signal.aborted);
    });
  }

  /**
   * On two cards: the same seed with the judge and without.
   * @param {Task} task
   */
  sideBySide(task) {
    const again = () => this.sideBySide(task);
    return this.#run(task, true, again, () => this.one(task, false), async (signal) => {
      const began = performance.now();
      this.drafts.begin(`Side by side, seed ${task.seed}`, ["With the judge", "Without the judge"], task.doc, task.at);
      const [judged, free] = this.drafts.drafts;
      await Promise.all([
        this.#fill([judged], task, { valid: true }, signal),
        this.#fill([free], task, { valid: false }, signal),
      ]);
      return () => this.listener.compared(2, (performance.now() - began) / 1000, signal.aborted);
    });
  }

  /**
   * Whatever a run is: one at a time, a judged one only of what can be Python, its errors shown.
   * @param {Task} task
   * @param {boolean} isJudged
   * @param {() => void} again
   * @param {() => void} withoutJudge
   * @param {(signal: AbortSignal) => Promise<() => void>} work gives back what is told once the run is over
   */
  async #run(task, isJudged, again, withoutJudge, work) {
    if (this.isRunning) return;
    const { signal } = (this.controller = new AbortController());
    this.last = task;
    this.editor.locked = true;
    this.listener.running(true);
    let tell = () => {};
    try {
      const judgement = isJudged && (await judge(task.doc.text.slice(0, task.at), signal));
      if (judgement && !isPython(judgement)) tell = () => this.listener.notPython(judgement, withoutJudge);
      else tell = await work(signal);
    } catch (error) {
      this.controller.abort(); // of two streams the other one
      tell = () => this.listener.failed(error, again);
    } finally {
      this.controller = null;
      this.editor.locked = false;
      this.listener.running(false);
    }
    tell();
  }

  /**
   * The stream of a request; ends quietly where the user stopped it.
   * @param {Task} task
   * @param {object} more of the request
   * @param {AbortSignal} signal
   */
  async *#stream({ doc, at, seed }, more, signal) {
    const { temperature, length } = this.settings.value;
    const suffix = doc.text.slice(at);
    const request = {
      prompt: doc.text.slice(0, at),
      ...(suffix.trim() ? { suffix } : {}),
      max_tokens: length,
      temperature,
      seed,
      logprobs: LIKELIEST,
      rejected: true,
      sources: true,
      ...more,
    };
    try {
      yield* completions(request, { signal, onWait: this.listener.waiting, onNote: this.listener.noted });
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  /**
   * Stream one request onto its cards, then judge them.
   * @param {import("./drafts.js").Drafts["drafts"]} drafts
   * @param {Task} task
   * @param {object} more
   * @param {AbortSignal} signal
   */
  async #fill(drafts, task, more, signal) {
    for await (const choice of this.#stream(task, more, signal)) drafts[choice.index].add(choice);
    const judgements = await Promise.all(drafts.map(({ completion }) => judge(completion.doc.text)));
    drafts.forEach((draft, index) => draft.finish(judgements[index]));
  }
}

/**
 * @param {Completion} completion
 * @param {Task} task
 * @param {boolean} judged
 * @param {number} began
 * @param {boolean} stopped
 * @returns {Outcome}
 */
function outcomeOf(completion, { seed }, judged, began, stopped) {
  const { refusals, copies } = completion.known;
  return {
    tokens: completion.tokens,
    seconds: (performance.now() - began) / 1000,
    refused: refusals.length,
    copies: copies.length,
    seed,
    judged,
    stopped,
    ended: completion.last?.finish_reason === "stop",
  };
}

/** A function that is called at most once a frame, however often it is asked for. */
function eachFrame(/** @type {() => void} */ draw) {
  let frame = 0;
  return {
    soon() {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    },
    cancel() {
      cancelAnimationFrame(frame);
    },
  };
}
