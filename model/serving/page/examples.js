/** Texts to begin with. "▮" is where the caret stands; without one it is at the end. */

export const EXAMPLES = [
  {
    name: "A class",
    text: `class Stack:
    """The last item that is put on it is the first that is taken off."""

    def __init__(self):
        self._items = []

    def push(self, item):`,
  },
  {
    name: "A function",
    text: `import json

def read_json(path):
    """Return what a JSON file holds."""
`,
  },
  {
    name: "A gap to fill",
    isGap: true,
    text: `def area(radius):
    ▮
    return result
`,
  },
  {
    name: "Not Python",
    text: `def area(radius:
    return 3.14159 * radius ** 2
`,
  },
];

/**
 * @param {string} text with or without a caret
 * @returns {{text: string, caret: number}}
 */
export function withCaret(text) {
  const caret = text.indexOf("▮");
  return caret < 0 ? { text, caret: text.length } : { text: text.replace("▮", ""), caret };
}
