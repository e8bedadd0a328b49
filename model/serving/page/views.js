/** The tabs, what they show besides the editor, and the switch of dark and light. */

import { dataAddress, needsKey } from "./api.js";
import { element } from "./layer.js";
import { markdown } from "./markdown.js";

const THEME = "gpyt-theme";

/**
 * Tabs as the ARIA practices describe them: one is in the order of Tab, the arrows go to the others.
 * @param {HTMLElement} list
 * @param {(id: string) => void} onShow told which panel is shown, before it is
 */
export function startTabs(list, onShow) {
  const tabs = () => [...list.querySelectorAll('[role="tab"]:not([hidden])')];
  const select = (/** @type {HTMLElement} */ chosen) => {
    onShow(chosen.getAttribute("aria-controls"));
    for (const tab of list.querySelectorAll('[role="tab"]')) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
  };
  list.addEventListener("click", ({ target }) => {
    const tab = target.closest('[role="tab"]');
    if (tab) select(tab);
  });
  list.addEventListener("keydown", (event) => {
    const all = tabs();
    const at = all.indexOf(document.activeElement);
    const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    const tab = all.at(places[event.key] % all.length);
    tab.focus();
    select(tab);
  });
}

/**
 * The other views of a model, as far as they exist; pictures and pages are fetched when they are first looked at.
 * @param {import("./api.js").About} about
 * @returns {(panel: string) => Promise<void>} fills a panel
 */
export function otherViews(about) {
  const filled = new Set();
  const offer = (/** @type {string} */ id) => (document.getElementById(id).hidden = false);
  if (about.card) offer("tab-card");
  if (about.has_loss_plot) offer("tab-curve");
  if (about.has_scores) offer("tab-scores");
  return async (panel) => {
    if (filled.has(panel)) return;
    filled.add(panel);
    try {
      if (panel === "view-card") document.getElementById("card").replaceChildren(await card(about));
      if (panel === "view-curve") document.getElementById("curve").replaceChildren(await lossPlot());
      if (panel === "view-scores") document.getElementById("scores").replaceChildren(await scores());
    } catch (error) {
      filled.delete(panel);
      document.getElementById(panel).firstElementChild.replaceChildren(element("p", "notice", error.message));
    }
  };
}

/** @param {import("./api.js").About} about */
async function card({ card: text, has_loss_plot: hasPlot }) {
  const made = markdown(text);
  // the one picture of a card; it may need the key, which an <img> could not give
  for (const image of made.querySelectorAll("span[data-image]")) {
    if (image.dataset.image === "loss.png" && hasPlot) image.replaceWith(await lossPlot());
    else image.remove();
  }
  return made;
}

async function lossPlot() {
  const image = element("img", "plot");
  image.alt = "Bits per byte during training";
  image.src = await dataAddress("/loss.png");
  return image;
}

async function scores() {
  if (needsKey()) {
    // a frame cannot give the key, and in this page the styles of that one would not hold
    const link = element("a", "", "Save scores.html");
    link.download = "scores.html";
    link.href = await dataAddress("/scores.html");
    return element("p", "reading", "The scores are a page of their own. ", link);
  }
  const frame = element("iframe");
  frame.title = "Scores of the model";
  frame.src = "/scores.html";
  return frame;
}

/**
 * Dark and light: as the system has it, until the button says otherwise.
 * @param {HTMLButtonElement} button
 */
export function startTheme(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Switch to light" : "Switch to dark");
  };
  const stored = read(THEME);
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
    try {
      localStorage.setItem(THEME, root.dataset.theme);
    } catch {
      // a browser that keeps nothing
    }
  });
  system.addEventListener("change", label);
  label();
}

/** @param {string} name */
function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
