"""The grammar of Python's logical lines, a line each: what stands after a header's colon is another line.

Notation: [optional] (group)* (group)+, "quoted" terminals, CAPITALS for kinds of lexemes. It says what
CPython's own Grammar/python.gram says, without precedence (a + b * c is a row of operands here) and without
what is forbidden by a second look, so it allows all that CPython allows and a little more.
Source: https://docs.python.org/3/reference/grammar.html
"""

from __future__ import annotations

import sys

STATEMENTS = """
statement: simple_statements NEWLINE | compound NEWLINE | decorated_line
decorated_line: "@" named_expression NEWLINE | ["async"] function NEWLINE | class_definition NEWLINE
simple_statements: simple_statement (";" simple_statement)* [";"]
simple_statement: assignment | star_expressions | yield_expr | "return" [star_expressions] | "pass"
simple_statement: "break" | "continue" | "global" names | "nonlocal" names | "del" del_targets
simple_statement: "raise" [expression ["from" expression]] | "assert" expression ["," expression]
simple_statement: "import" dotted_as ("," dotted_as)* | "from" from_name "import" imported
names: NAME ("," NAME)*
dotted_name: NAME ("." NAME)*
dotted_as: dotted_name ["as" NAME]
from_name: ("." | "...")* dotted_name | ("." | "...")+
import_as: NAME ["as" NAME]
imported: "*" | import_as ("," import_as)* | "(" import_as ("," import_as)* [","] ")"
assignment: (star_targets "=")+ right | single_target AUGMENTED right
assignment: single_target ":" expression ["=" right]
right: yield_expr | star_expressions
yield_expr: "yield" [star_expressions] | "yield" "from" expression
"""

TARGETS = """
place: primary "." NAME | primary "[" slices "]"
single_target: NAME | place | "(" single_target ")"
star_targets: star_target ("," star_target)* [","]
star_target: ["*"] (NAME | place | "(" [star_targets] ")" | "[" [star_targets] "]")
del_targets: del_target ("," del_target)* [","]
del_target: NAME | place | "(" [del_targets] ")" | "[" [del_targets] "]"
"""

COMPOUND = """
compound: "if" named_expression ":" body | "while" named_expression ":" body | "try" ":" body
compound: ["async"] "for" star_targets "in" star_expressions ":" body | ["async"] "with" with_items ":" body
compound: "match" star_named_expressions ":"
class_definition: "class" NAME [type_parameters] ["(" [arguments] ")"] ":" body
function: "def" NAME [type_parameters] "(" [parameters] ")" ["->" expression] ":" body
body: [simple_statements]
elif_line: "elif" named_expression ":" body NEWLINE
else_line: "else" ":" body NEWLINE
except_line: "except" [["*"] expression ["as" NAME]] ":" body NEWLINE
finally_line: "finally" ":" body NEWLINE
case_line: "case" patterns ["if" named_expression] ":" body NEWLINE
with_items: with_item ("," with_item)* | "(" with_item ("," with_item)* [","] ")"
with_item: expression ["as" star_target]
"""

EXPRESSIONS = """
star_expressions: star_expression ("," star_expression)* [","]
star_expression: "*" row | expression
star_named_expressions: star_named_expression ("," star_named_expression)* [","]
star_named_expression: "*" row | named_expression
named_expression: NAME ":=" expression | expression
expression: disjunction ["if" disjunction "else" expression] | "lambda" [lambda_parameters] ":" expression
disjunction: inversion (("and" | "or") inversion)*
inversion: ("not")* row ((COMPARISON | "in" | "not" "in" | "is" | "is" "not") row)*
row: operand (("+" | "-" | "*" | "**" | "/" | "@" | "|" | ARITHMETIC) operand)*
operand: ("+" | "-" | "~")* ["await"] primary
primary: atom ("." NAME | "(" [arguments] ")" | "(" generator ")" | "[" slices "]")*
atom: NAME | CONSTANT | NUMBER | "..." | (STRING | fstring)+ | (BYTES)+
atom: "(" [yield_expr | star_named_expressions | generator] ")"
atom: "[" [star_named_expressions | generator] "]"
atom: "{" [entries | star_named_expressions | generator | entry for_if] "}"
generator: named_expression for_if
for_if: (["async"] "for" star_targets "in" disjunction ("if" disjunction)*)+
entries: double_starred ("," double_starred)* [","]
double_starred: "**" row | entry
entry: expression ":" expression
slices: slice ("," slice)* [","]
slice: [expression] ":" [expression] [":" [expression]] | named_expression | "*" row
arguments: positional ("," positional)* ["," [keywords]] | keywords
positional: "*" expression | named_expression
keywords: by_name ("," by_name)* ["," [double_keywords]] | double_keywords
by_name: keyword | "*" expression
double_keywords: (keyword | "**" expression) ("," (keyword | "**" expression))* [","]
keyword: NAME "=" expression
fstring: FSTRING (field)* FSTRING_END
field: FIELD right ["="] [CONVERSION NAME] [FORMAT (field)*] FIELD_END
"""

# Once with annotations and once for lambda: what has a default is followed by what has one.
PARAMETERS = """
P: NAME A plain | NAME A "=" expression defaulted | starred
Pplain: ["," [NAME A plain | NAME A "=" expression defaulted | "/" plain | starred]]
Pdefaulted: ["," [NAME A "=" expression defaulted | "/" defaulted | starred]]
Pstarred: "*" NAME SA named | "*" "," NAME A ["=" expression] named | "**" NAME A [","]
Pnamed: ["," [NAME A ["=" expression] named | "**" NAME A [","]]]
"""

PATTERNS = """
patterns: star_pattern ("," star_pattern)* [","]
star_pattern: "*" NAME | pattern
pattern: closed_pattern ("|" closed_pattern)* ["as" NAME]
closed_pattern: ["-"] NUMBER [("+" | "-") NUMBER] | CONSTANT | (STRING)+ | (BYTES)+
closed_pattern: NAME ("." NAME)* ["(" [class_patterns] ")"]
closed_pattern: "(" [patterns] ")" | "[" [patterns] "]" | "{" [key_pattern ("," key_pattern)* [","]] "}"
key_pattern: "**" NAME | key ":" pattern
key: ["-"] NUMBER [("+" | "-") NUMBER] | CONSTANT | (STRING)+ | (BYTES)+ | dotted_name
class_patterns: class_pattern ("," class_pattern)* [","]
class_pattern: [NAME "="] pattern
"""

NEWER = {
    (3, 12): """
simple_statement: "type" NAME [type_parameters] "=" expression
type_parameters: "[" type_parameter ("," type_parameter)* [","] "]"
type_parameter: NAME [":" expression] ["=" expression] | "*" NAME ["=" star_expression]
type_parameter: "**" NAME ["=" expression]
""",
    (3, 14): """
except_line: "except" expression ("," expression)* [","] ":" body NEWLINE
""",
}


def parameters(name: str, annotation: str, star_annotation: str) -> str:
    """The rules of a function's parameters; annotation: what may follow a name."""
    rules = PARAMETERS.replace(" SA ", f" {star_annotation} ").replace(" A", f" {annotation}")
    for part in ("plain", "defaulted", "starred", "named"):
        rules = rules.replace(f"P{part}:", f"{name}_{part}:").replace(f" {part}", f" {name}_{part}")
    return rules.replace("P:", f"{name}:")


def rules() -> str:
    """The grammar of the running Python."""
    older = [STATEMENTS, TARGETS, COMPOUND, EXPRESSIONS, PATTERNS]
    newer = [text for version, text in NEWER.items() if sys.version_info >= version]
    if sys.version_info < (3, 12):
        older = [text.replace("[type_parameters] ", "") for text in older]
    annotated = parameters("parameters", '[":" expression]', '[":" ["*"] expression]')
    return "".join([*older, annotated, parameters("lambda_parameters", "", ""), *newer])
