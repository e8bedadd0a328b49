/**
 * What the page asks the server for: completions as a stream, judgements, and what the model is.
 *
 * Every answer of the network ends as a value or as an ApiError whose message can be shown as it is.
 */

const KEY = "gpyt-api-key"; // in sessionStorage: gone with the tab, never sent elsewhere
const LONGEST_WAIT = 30; // seconds: a server that asks for more is not waited for
const MOST_TRIES = 5; // of a request that a busy server puts off

/**
 * @typedef {{offset: number, text: string, reason: string}} RefusedText
 * @typedef {{offset: number, length: number, repo: string, path: string, license: string}} Source
 * @typedef {{tokens: string[], token_logprobs: number[], top_logprobs: Object<string, number>[], text_offset: number[]}} Logprobs
 * @typedef {{index: number, text: string, logprobs: Logprobs|null, finish_reason: string|null,
 *   rejected?: RefusedText[], valid?: boolean|null, score?: number, rank?: number,
 *   sources?: Source[]|null}} Choice
 * @typedef {{valid: boolean, unfinished: boolean, message: string|null, line: number|null, column: number|null}} Judgement
 * @typedef {{name: string, parameters: number, context: number, vocabulary: number, infilling: boolean,
 *   bits_per_byte: number|null, card: string, has_scores: boolean, has_loss_plot: boolean, has_sources: boolean}} About
 * @typedef {{signal?: AbortSignal, onWait?: (seconds: number) => void, onNote?: (note: string) => void}} Asking
 */

/** Something that the server, or the way to it, did not do. */
export class ApiError extends Error {
  /**
   * @param {string} message what to show
   * @param {"gone"|"busy"|"key"|"broken"|"refused"} kind
   */
  constructor(message, kind) {
    super(message);
    this.kind = kind;
  }
}

/** @type {(wasWrong: boolean) => Promise<string|null>} */
let askForKey = async () => null;

/**
 * Say how a key is asked for where the server wants one.
 * @param {(wasWrong: boolean) => Promise<string|null>} ask answers null where the user gives up
 */
export function setKeyDialog(ask) {
  askForKey = ask;
}

/** @returns {Promise<About>} */
export async function about() {
  return (await send("/about", {})).json();
}

/**
 * What CPython says of a text.
 * @param {string} text
 * @param {AbortSignal} [signal]
 * @returns {Promise<Judgement>}
 */
export async function judge(text, signal) {
  return (await send("/v1/judge", post({ text }), { signal })).json();
}

/**
 * A picture or page of the server as a data: address, as an element that names it itself could not give the key.
 * @param {string} path
 * @returns {Promise<string>}
 */
export async function dataAddress(path) {
  const reader = new FileReader();
  reader.readAsDataURL(await (await send(path, {})).blob());
  await new Promise((resolve) => reader.addEventListener("loadend", resolve));
  return String(reader.result);
}

/** Whether the server wants a key, as far as is known. */
export function needsKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/**
 * The choices of a completion's stream as they arrive; ends with the stream.
 * @param {object} request the body of POST /v1/completions, without "stream"
 * @param {Asking} asking
 * @returns {AsyncGenerator<Choice>}
 */
export async function* completions(request, asking) {
  const answer = await send("/v1/completions", post({ ...request, stream: true }), asking);
  for await (const event of events(answer)) {
    if (event === "[DONE]") return;
    const chunk = JSON.parse(event);
    if (chunk.error) throw new ApiError(sentence(chunk.error.message), "refused");
    if (chunk.note) asking.onNote?.(sentence(chunk.note));
    yield* chunk.choices;
  }
  throw new ApiError("The connection broke off; what had arrived is kept.", "broken");
}

/**
 * The data of each server-sent event.
 * @param {Response} answer
 * @returns {AsyncGenerator<string>}
 */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The connection broke off; what had arrived is kept.", "broken");
    }
    if (part.done) return;
    const lines = (rest + part.value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trimStart();
  }
}

/** @param {object} body */
function post(body) {
  return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
}

/**
 * An answer that is there: asks for a key where one is needed, waits where the server is busy.
 * @param {string} path
 * @param {RequestInit} init
 * @param {Asking} [asking]
 * @returns {Promise<Response>}
 */
async function send(path, init, { signal, onWait } = {}) {
  for (let tries = 1; ; tries += 1) {
    const answer = await reach(path, withKey(init), signal);
    if (answer.ok) return answer;
    if (answer.status === 401) {
      const key = await askForKey(sessionStorage.getItem(KEY) !== null);
      if (key === null) throw new ApiError("The server answers only to those who give its API key.", "key");
      sessionStorage.setItem(KEY, key);
      tries -= 1;
      continue;
    }
    const seconds = Number(answer.headers.get("Retry-After") ?? 1);
    if (answer.status === 503 && onWait && tries < MOST_TRIES && seconds <= LONGEST_WAIT) {
      onWait(seconds);
      await pause(Math.max(seconds, 0.2), signal);
      continue;
    }
    throw new ApiError(await reason(answer), answer.status === 503 ? "busy" : "refused");
  }
}

/** @param {RequestInit} init */
function withKey(init) {
  const key = sessionStorage.getItem(KEY);
  return key === null ? init : { ...init, headers: { ...init.headers, Authorization: `Bearer ${key}` } };
}

/**
 * @param {string} path
 * @param {RequestInit} init
 * @param {AbortSignal} [signal]
 */
async function reach(path, init, signal) {
  try {
    return await fetch(path, { ...init, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is python model/serve.py still running?", "gone");
  }
}

/**
 * Why an answer is none, in the server's words where it has some.
 * @param {Response} answer
 */
async function reason(answer) {
  try {
    return sentence((await answer.json()).error.message);
  } catch {
    return `The server answered with status ${answer.status}.`;
  }
}

/** @param {string} message "prompt: too long" -> "Prompt: too long." */
function sentence(message) {
  const text = String(message || "The server gave no reason").trim();
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/**
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("stopped", "AbortError"));
    if (signal?.aborted) return stop();
    setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
