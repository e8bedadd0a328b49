/**
 * The text of the editor and what is known of its parts: which token the model wrote with which probability,
 * what the judge refused where, what was copied from whom.
 *
 * A Doc is never changed, so that undo only has to keep the earlier ones. All positions are UTF-16 units, as in
 * every string of JavaScript; the server counts characters.
 *
 * @typedef {import("./api.js").Choice} Choice
 * @typedef {{start: number, end: number, text: string, logprob: number, top: [string, number][]}} Mark a token
 * @typedef {{at: number, text: string, reason: string}} Refusal
 * @typedef {{start: number, end: number, repo: string, path: string, license: string}} Copy
 * @typedef {{text: string, marks: Mark[], refusals: Refusal[], copies: Copy[]}} Doc
 */

/**
 * A text of the user's own.
 * @param {string} text
 * @returns {Doc}
 */
export function plain(text) {
  return { text, marks: [], refusals: [], copies: [] };
}

/**
 * The Doc after its text has been edited: what lies before and after the edit stays known, what it touches not.
 * @param {Doc} doc
 * @param {string} text
 * @returns {Doc}
 */
export function edited(doc, text) {
  const old = doc.text;
  const most = Math.min(old.length, text.length);
  let head = 0;
  while (head < most && old[head] === text[head]) head += 1;
  let tail = 0;
  while (tail < most - head && old[old.length - 1 - tail] === text[text.length - 1 - tail]) tail += 1;
  return joined(text, before(doc, head), after(doc, old.length - tail, text.length - tail));
}

/**
 * The Doc up to a position; a token or copy that reaches beyond it is no longer known.
 * @param {Doc} doc
 * @param {number} end
 * @returns {Doc}
 */
export function before(doc, end) {
  return {
    text: doc.text.slice(0, end),
    marks: doc.marks.filter((mark) => mark.end <= end),
    refusals: doc.refusals.filter((refusal) => refusal.at < end),
    copies: doc.copies.filter((copy) => copy.end <= end),
  };
}

/**
 * What begins at `start` or later, moved to where `moved` is.
 * @param {Doc} doc
 * @param {number} start
 * @param {number} moved
 * @returns {Doc}
 */
function after(doc, start, moved) {
  const by = moved - start;
  const shift = (span) => ({ ...span, start: span.start + by, end: span.end + by });
  return {
    text: doc.text.slice(start),
    marks: doc.marks.filter((mark) => mark.start >= start).map(shift),
    refusals: doc.refusals
      .filter((refusal) => refusal.at >= start)
      .map((refusal) => ({ ...refusal, at: refusal.at + by })),
    copies: doc.copies.filter((copy) => copy.start >= start).map(shift),
  };
}

/**
 * @param {string} text
 * @param {...Doc} parts whose positions are already those in the text
 * @returns {Doc}
 */
function joined(text, ...parts) {
  return {
    text,
    marks: parts.flatMap((part) => part.marks),
    refusals: parts.flatMap((part) => part.refusals),
    copies: parts.flatMap((part) => part.copies),
  };
}

/** A completion that arrives in parts and is put into a Doc at a position. */
export class Completion {
  /**
   * @param {Doc} doc
   * @param {number} at
   */
  constructor(doc, at) {
    this.head = before(doc, at);
    this.rest = doc;
    this.at = at;
    this.text = "";
    /** @type {Doc} */
    this.known = plain("");
    /** @type {Choice|null} the last part, with the verdict and the score */
    this.last = null;
    this.characters = 0;
  }

  /** @param {Choice} choice the next part of the stream */
  add(choice) {
    const offsetOfPart = this.characters;
    this.text += choice.text;
    this.characters += lengthInCharacters(choice.text);
    const place = (/** @type {number} */ characters) => this.at + unitsOf(this.text, characters);
    const { marks, refusals, copies } = this.known;
    const logprobs = choice.logprobs;
    logprobs?.tokens.forEach((text, index) => {
      const start = place(logprobs.text_offset[index] ?? offsetOfPart);
      const end = place(logprobs.text_offset[index + 1] ?? this.characters);
      const logprob = logprobs.token_logprobs[index];
      if (end > start && logprob !== null) marks.push({ start, end, text, logprob, top: likeliest(logprobs, index) });
    });
    for (const { offset, text, reason } of choice.rejected ?? []) refusals.push({ at: place(offset), text, reason });
    for (const { offset, length, repo, path, license } of choice.sources ?? []) {
      copies.push({ start: place(offset), end: place(offset + length), repo, path, license });
    }
    if (choice.finish_reason) this.last = choice;
  }

  /** The position behind what has been written. */
  get end() {
    return this.at + this.text.length;
  }

  /** How many tokens are known to have been written. */
  get tokens() {
    return this.known.marks.length;
  }

  /** @returns {Doc} the whole text with what has arrived so far */
  get doc() {
    const text = this.head.text + this.text + this.rest.text.slice(this.at);
    const { marks, refusals, copies } = this.known;
    return joined(
      text,
      this.head,
      { text: "", marks: [...marks], refusals: [...refusals], copies: [...copies] },
      after(this.rest, this.at, this.end),
    );
  }
}

/**
 * @param {import("./api.js").Logprobs} logprobs
 * @param {number} index
 * @returns {[string, number][]} the likeliest first
 */
function likeliest(logprobs, index) {
  return Object.entries(logprobs.top_logprobs?.[index] ?? {})
    .sort((one, other) => other[1] - one[1])
    .slice(0, 5);
}

/** @param {string} text */
export function lengthInCharacters(text) {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/**
 * How many UTF-16 units so many characters of a text take.
 * @param {string} text
 * @param {number} characters
 */
export function unitsOf(text, characters) {
  if (!/[\ud800-\udfff]/.test(text)) return Math.min(characters, text.length);
  let units = 0;
  for (const character of text) {
    if (characters <= 0) break;
    units += character.length;
    characters -= 1;
  }
  return units;
}
