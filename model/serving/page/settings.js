/**
 * The form of settings: what it says, kept from visit to visit.
 *
 * @typedef {{judge: "on"|"off"|"both", temperature: number, length: number, samples: number, seed: number|null}} Settings
 */

const STORED = "gpyt-settings";
const LARGEST_SEED = 2 ** 31 - 1;

export class SettingsForm {
  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.form = form;
    this.#restore();
    form.addEventListener("input", () => this.#changed());
    form.addEventListener("submit", (event) => event.preventDefault());
    // A number that was typed wrong becomes the nearest that is allowed once the field is left.
    form.addEventListener("change", () => {
      const { samples, seed } = this.value;
      this.#field("samples").value = String(samples);
      this.#field("seed").value = seed === null ? "" : String(seed);
      this.#changed();
    });
    this.#changed();
  }

  /** @returns {Settings} */
  get value() {
    const seed = this.#field("seed").value.trim();
    return {
      judge: new FormData(this.form).get("judge"),
      temperature: Number(this.#field("temperature").value),
      length: Number(this.#field("length").value),
      samples: whole(this.#field("samples").value, 1, 8),
      seed: seed === "" ? null : whole(seed, 0, LARGEST_SEED),
    };
  }

  /** A seed for the next completion: the one that was asked for, or a new one. */
  seed() {
    return this.value.seed ?? Math.floor(Math.random() * 100_000);
  }

  /** @param {string} id @returns {HTMLInputElement} */
  #field(id) {
    return this.form.querySelector(`#${id}`);
  }

  #changed() {
    const { judge, temperature, length } = this.value;
    this.form.querySelector("#temperature-shown").value = temperature === 0 ? "0, the likeliest" : temperature.toFixed(1);
    this.form.querySelector("#length-shown").value = `${length} tokens`;
    this.#field("samples").disabled = judge === "both"; // side by side: one with the judge, one without
    try {
      localStorage.setItem(STORED, JSON.stringify(this.value));
    } catch {
      // a browser that keeps nothing: then the settings last as long as the page
    }
  }

  #restore() {
    let stored;
    try {
      stored = JSON.parse(localStorage.getItem(STORED) ?? "{}");
    } catch {
      return;
    }
    for (const id of ["temperature", "length", "samples", "seed"]) {
      if (Number.isFinite(stored?.[id])) this.#field(id).value = String(stored[id]);
    }
    for (const radio of this.form.elements.judge) if (radio.value === stored?.judge) radio.checked = true;
  }
}

/**
 * @param {string} text
 * @param {number} low
 * @param {number} high
 */
function whole(text, low, high) {
  return Math.min(Math.max(Math.round(Number(text)) || low, low), high);
}
