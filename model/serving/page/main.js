/** Puts the page together: what each button and key does, and what is said when something happened. */

import { about, setKeyDialog } from "./api.js";
import { edited, plain } from "./doc.js";
import { Drafts, verdictOf } from "./drafts.js";
import { Editor } from "./editor.js";
import { EXAMPLES, withCaret } from "./examples.js";
import { element } from "./layer.js";
import { Messages, outcomeInWords, shortNumber } from "./messages.js";
import { Odds } from "./odds.js";
import { SettingsForm } from "./settings.js";
import { Verdict } from "./verdict.js";
import { otherViews, startTabs, startTheme } from "./views.js";
import { Why } from "./why.js";
import { Writer } from "./writer.js";

const IS_MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const COMMAND = IS_MAC ? "⌘" : "Ctrl";
const KEYS = [
  [`${COMMAND}+Enter`, "continue at the end"],
  [`${COMMAND}+Shift+Enter`, "fill in at the caret"],
  ["Esc", "stop, close"],
  [`${COMMAND}+Z`, "undo"],
  ["Ctrl+Space", "the token at the caret"],
];
const TEXT = "gpyt-text"; // in sessionStorage: a reload keeps what was typed

/** @param {string} id */
const byId = (id) => document.getElementById(id);

const editor = new Editor(byId("text"), byId("layer"), byId("scroller"));
const settings = new SettingsForm(byId("settings"));
const verdict = new Verdict(byId("verdict"), editor);
const messages = new Messages(byId("summary"), byId("notice"));
const drafts = new Drafts(byId("drafts"), (doc, caret) => {
  editor.set(doc, caret, true);
  messages.say("Taken into the editor.");
  verdict.now();
  editor.field.focus();
});
const writer = new Writer(editor, settings, drafts, {
  running: showRunning,
  waiting: (seconds) => messages.say(`The server is busy. Trying again in ${seconds} s.`),
  noted: (note) => (remark = note),
  wrote: tellOutcome,
  compared(count, seconds, stopped) {
    messages.say(`${stopped ? "Stopped." : `${count} completions in ${seconds.toFixed(1)} s.`} “Use this one” takes it into the editor.`);
    byId("drafts").focus({ preventScroll: true });
    verdict.now();
  },
  failed(error, again) {
    if (error.name === "AbortError") messages.say("Stopped.");
    else messages.notice(error.message, [["Try again", again]]);
    if (error.kind !== "gone") verdict.now();
  },
  notPython(judgement, withoutJudge) {
    verdict.show(judgement);
    const where = judgement.line ? ` In line ${judgement.line}: ${judgement.message}.` : ` ${judgement.message}.`;
    messages.notice(`No Python program begins like this, so there is nothing to judge by.${where}`, [["Continue without the judge", withoutJudge]]);
  },
});
const odds = new Odds(byId("odds"), editor, takeInstead);
const why = new Why(byId("why-body"), editor);
let remark = ""; // of the server, on the completion that it writes

/** @param {boolean} isRunning */
function showRunning(isRunning) {
  const [from, to] = isRunning ? ["continue", "stop"] : ["stop", "continue"];
  const hadFocus = document.activeElement === byId(from);
  byId(to).hidden = false;
  if (hadFocus) byId(to).focus();
  byId(from).hidden = true;
  byId("sheet").setAttribute("aria-busy", String(isRunning));
  if (isRunning) {
    remark = "";
    messages.hideNotice();
    messages.say("Writing.");
    verdict.writing();
  }
  showButtons();
}

/** What can be done with the text as it is. */
function showButtons() {
  const rest = editor.doc.text.slice(editor.caret);
  byId("fill").hidden = !rest.trim() || writer.isRunning;
  byId("undo").disabled = !editor.history.past.length || writer.isRunning;
  byId("redo").disabled = !editor.history.future.length || writer.isRunning;
}

/** @param {import("./writer.js").Outcome} outcome */
async function tellOutcome(outcome) {
  const { last } = writer;
  const comparison = outcome.judged ? [["Compare without the judge", () => writer.sideBySide(last)]] : [];
  messages.say(`${outcomeInWords(outcome)} ${remark} `, comparison);
  const judgement = await verdict.now();
  if (judgement && !writer.isRunning) messages.speak(verdictOf(judgement).words);
}

/**
 * Write another token in the place of one, and go on from there.
 * @param {number} index of the mark
 * @param {string} token
 */
function takeInstead(index, token) {
  if (writer.isRunning) return;
  const { doc } = editor;
  let last = index;
  while (doc.marks[last + 1]?.start === doc.marks[last].end) last += 1;
  const head = doc.text.slice(0, doc.marks[index].start) + token;
  editor.set(edited(doc, head + doc.text.slice(doc.marks[last].end)), head.length, true);
  odds.hide();
  editor.field.focus({ preventScroll: true });
  writer.write(head.length);
}

/** @param {HTMLElement} button @returns {boolean} whether it is pressed now */
function press(button) {
  const isPressed = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(isPressed));
  return isPressed;
}

function followCaret() {
  const isOn = press(byId("show-odds"));
  if (isOn) setRefused(false);
  odds.setFollows(isOn);
  if (isOn) editor.field.focus({ preventScroll: true });
}

/** @param {boolean} isShown */
function setRefused(isShown) {
  editor.setReading(isShown);
}

const actions = {
  continue: () => writer.write(editor.doc.text.length),
  fill: () => writer.write(editor.caret),
  stop: () => writer.stop(),
  undo: () => step("undo"),
  redo: () => step("redo"),
  "why-button": () => {
    byId("why").focus({ preventScroll: true });
    byId("why").scrollIntoView({ block: "nearest" });
  },
  "show-tint": () => byId("sheet").classList.toggle("plain", !press(byId("show-tint"))),
  "show-refused": () => setRefused(!editor.isReading),
  "show-odds": followCaret,
};
for (const [id, act] of Object.entries(actions)) byId(id).addEventListener("click", act);

/** @param {"undo"|"redo"} way */
function step(way) {
  if (writer.isRunning) return;
  editor.step(way);
  verdict.now();
}

document.addEventListener("keydown", (event) => {
  if (byId("view-write").hidden || byId("key-dialog").open) return;
  const isCommand = event.ctrlKey || event.metaKey;
  if (event.key === "Enter" && isCommand) {
    event.preventDefault();
    if (event.shiftKey && !byId("fill").hidden) actions.fill();
    else if (!event.shiftKey) actions.continue();
  } else if (event.key === " " && event.ctrlKey) {
    event.preventDefault();
    followCaret();
  } else if (event.key === "Escape") {
    if (writer.isRunning) writer.stop();
    else if (odds.followsCaret) followCaret();
    else odds.hide();
  }
});

editor.addEventListener("caret", showButtons);
editor.addEventListener("reading", () => byId("show-refused").setAttribute("aria-pressed", String(editor.isReading)));
editor.addEventListener("edit", () => (messages.hideNotice()));
editor.addEventListener("change", () => {
  showButtons();
  try {
    sessionStorage.setItem(TEXT, editor.doc.text);
  } catch {
    // full, or a browser that keeps nothing
  }
});

for (const { name, text, isGap } of EXAMPLES) {
  const chip = element("button", "chip", name);
  chip.type = "button";
  chip.hidden = Boolean(isGap); // until it is known that the model fills gaps
  chip.dataset.gap = String(Boolean(isGap));
  chip.addEventListener("click", () => begin(withCaret(text)));
  byId("examples").append(chip);
}

/** @param {{text: string, caret: number}} start */
function begin({ text, caret }) {
  if (writer.isRunning) return;
  messages.hideNotice();
  drafts.close();
  editor.setReading(false);
  editor.set(plain(text), caret, true);
  messages.say(caret < text.length ? "“Fill in at the caret” writes between the lines." : FIRST);
  verdict.now();
}

const FIRST = "Press Continue: the model goes on where the text ends. Then point at a word to see what else it considered.";

const keyDialog = byId("key-dialog");
setKeyDialog(
  (wasWrong) =>
    new Promise((resolve) => {
      byId("key-wrong").hidden = !wasWrong;
      byId("key").value = "";
      keyDialog.returnValue = "";
      keyDialog.showModal();
      keyDialog.addEventListener("close", () => resolve(keyDialog.returnValue === "use" ? byId("key").value.trim() : null), { once: true });
    }),
);

/** What the server says of its model: the facts at the top, and the other views. */
async function introduce() {
  try {
    const facts = await about();
    const words = [`${shortNumber(facts.parameters)} parameters`, `context of ${facts.context} tokens`];
    if (facts.bits_per_byte) words.push(`${facts.bits_per_byte.toFixed(2)} bits per byte`);
    byId("facts").textContent = words.join(" · ");
    document.title = facts.name === "GPyT" ? "GPyT" : `${facts.name} · GPyT`;
    why.hasSources = facts.has_sources;
    for (const chip of byId("examples").children) chip.hidden = chip.dataset.gap === "true" && !facts.infilling;
    if (!facts.infilling) byId("fill").title = "This model has not learnt to fill gaps: it goes on, and stops where the rest begins.";
    showView = otherViews(facts);
  } catch (error) {
    messages.notice(error.message, [["Try again", introduce]]);
    return;
  }
  verdict.now();
}

let showView = async () => {};
byId("keys").append(...KEYS.flatMap(([key, what]) => [element("span", "key", element("kbd", "", key), ` ${what}`), " "]));
startTheme(byId("theme"));
startTabs(byId("tabs"), (panel) => showView(panel));
begin({ ...withCaret(EXAMPLES[0].text), ...stored() });
editor.history.past.length = 0;
showButtons();
introduce();

/** The text that this tab had before it was loaded again. */
function stored() {
  const text = sessionStorage.getItem(TEXT);
  return text ? { text, caret: text.length } : {};
}
