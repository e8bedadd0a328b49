/**
 * Python's tokens, as far as colours go. It reads unfinished and wrong code too, and never fails.
 *
 * @typedef {"comment"|"string"|"number"|"keyword"|"constant"|"builtin"|"name"|"defined"|"decorator"|"operator"} Kind
 * @typedef {{start: number, end: number, kind: Kind}} SyntaxToken
 */

const KEYWORDS = new Set(
  ("and as assert async await break class continue def del elif else except finally for from global if import in " +
    "is lambda nonlocal not or pass raise return try while with yield").split(" "),
);
const CONSTANTS = new Set(["True", "False", "None", "NotImplemented", "Ellipsis", "__debug__", "self", "cls"]);
const BUILTINS = new Set(
  ("abs all any ascii bin bool breakpoint bytearray bytes callable chr classmethod compile complex delattr dict dir " +
    "divmod enumerate eval exec filter float format frozenset getattr globals hasattr hash help hex id input int " +
    "isinstance issubclass iter len list locals map max memoryview min next object oct open ord pow print property " +
    "range repr reversed round set setattr slice sorted staticmethod str sum super tuple type vars zip " +
    "BaseException Exception ArithmeticError AssertionError AttributeError EOFError FileNotFoundError ImportError " +
    "IndexError KeyError KeyboardInterrupt LookupError MemoryError NameError NotImplementedError OSError " +
    "OverflowError PermissionError RuntimeError StopIteration SyntaxError TimeoutError TypeError UnicodeError " +
    "ValueError ZeroDivisionError").split(" "),
);
// `match`, `case` and `type` are names almost everywhere; they are keywords only where a line begins with them
// and goes on as such a statement does.
const SOFT_KEYWORD = /(?:match|case|type)(?=[ \t]+[^\s=,.:)\]]).*?[:=]/y;

// Strings may be open: at the end of the text, or of the line. Their loops take whole runs of plain characters, as
// a loop over single ones needs memory for each.
const tripled = (/** @type {string} */ quote) =>
  String.raw`${quote.repeat(3)}[^${quote}\\]*(?:(?:\\[^]|${quote}(?!${quote}${quote}))[^${quote}\\]*)*(?:${quote.repeat(3)}|\\?$)`;
const short = (/** @type {string} */ quote) =>
  String.raw`${quote}[^${quote}\\\n]*(?:\\[^][^${quote}\\\n]*)*${quote}?`;

// One alternative for each kind, the first that fits.
const TOKEN = new RegExp(
  [
    String.raw`(?<blank>\s+)`,
    String.raw`(?<comment>#[^\n]*)`,
    String.raw`(?<string>(?:[rRuUbBfFtT]|[rR][bBfFtT]|[bBfFtT][rR])?(?:${[tripled('"'), tripled("'"), short('"'), short("'")].join("|")}))`,
    String.raw`(?<decorator>@[\p{ID_Start}_][\p{ID_Continue}.]*)`,
    String.raw`(?<number>(?:0[xXoObB][\da-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)[jJ]?)`,
    String.raw`(?<name>[\p{ID_Start}_]\p{ID_Continue}*)`,
    String.raw`(?<operator>[^])`,
  ].join("|"),
  "uy",
);

/**
 * @param {string} text
 * @returns {SyntaxToken[]} in order; blanks have none
 */
export function syntaxTokens(text) {
  const found = [];
  let word = ""; // the name before this token, where only blanks lie between
  let isLineStart = true;
  TOKEN.lastIndex = 0;
  for (let match; (match = TOKEN.exec(text)); ) {
    const [value] = match;
    const start = match.index;
    const groups = match.groups;
    if (groups.blank !== undefined) {
      isLineStart ||= value.includes("\n");
      continue;
    }
    /** @type {Kind} */
    let kind = "operator";
    if (groups.comment !== undefined) kind = "comment";
    else if (groups.string !== undefined) kind = "string";
    else if (groups.decorator !== undefined) kind = isLineStart ? "decorator" : "operator";
    else if (groups.number !== undefined) kind = "number";
    else if (groups.name !== undefined) kind = kindOfName(text, start, value, word, isLineStart);
    found.push({ start, end: start + value.length, kind });
    word = groups.name !== undefined ? value : value === "." ? "." : "";
    isLineStart = false;
  }
  return found;
}

/**
 * @param {string} text
 * @param {number} start
 * @param {string} name
 * @param {string} word the name or dot before
 * @param {boolean} isLineStart
 * @returns {Kind}
 */
function kindOfName(text, start, name, word, isLineStart) {
  if (word === "def" || word === "class") return "defined";
  if (word === ".") return "name"; // an attribute may be called like anything
  if (KEYWORDS.has(name)) return "keyword";
  if (CONSTANTS.has(name)) return "constant";
  SOFT_KEYWORD.lastIndex = start;
  if (isLineStart && SOFT_KEYWORD.test(text)) return "keyword";
  return BUILTINS.has(name) ? "builtin" : "name";
}
