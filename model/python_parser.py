"""CPython's own compiler, asked two things: is this text a program, and could something make it one?"""

from __future__ import annotations
import __future__

import warnings
from types import CodeType

from open_brackets import Place

# PyCF_ALLOW_INCOMPLETE_INPUT, PyCF_DONT_IMPLY_DEDENT of CPython's Include/cpython/compile.h: what the
# interactive interpreter asks for, so that "incomplete input" is told apart from an error.
INCOMPLETE = 0x4000 | 0x200
FUTURE_FLAGS = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}
ALL_FUTURE_FLAGS: int = sum(FUTURE_FLAGS.values())


def compiled(text: str, flags: int) -> CodeType | SyntaxError:
    """What the compiler makes of a text, without its warnings; every refusal is a SyntaxError here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code: CodeType = compile(text, "<prompt>", "exec", flags, dont_inherit=True)
            return code
        except SyntaxError as error:
            return error
        except (MemoryError, RecursionError):
            return SyntaxError("too deeply nested")
        except (ValueError, OverflowError) as error:  # a null byte, half of a surrogate pair
            return SyntaxError(str(error))


def is_complete(text: str, flags: int) -> bool:
    return isinstance(compiled(text, flags), CodeType)


def is_viable(text: str, place: Place, flags: int) -> bool:
    """False when the parser says that nothing which could follow would make it right."""
    return refusal(text, place, flags) is None


def refusal(text: str, place: Place, flags: int) -> SyntaxError | None:
    """What the parser objects to, whatever may follow; place: that of the text's end."""
    line = text[text.rfind("\n") + 1 :]
    if place.brackets or place.is_continued or place.string:
        asked = text
    elif not line.strip():
        asked = text[: len(text) - len(line)]
    else:
        # A backslash keeps the line open; without it "class A" would be wrong for the lack of a colon.
        asked = text + ("\n" if place.in_comment else " \\\n")
    answer = compiled(asked, flags | INCOMPLETE)
    return answer if isinstance(answer, SyntaxError) and "incomplete input" not in str(answer.msg) else None
