"""README.md, CONTRIBUTING.md and docs/ taken apart: code blocks, commands, sentences, links."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from project import PROJECT, SCRIPTS

PAGES = (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LOG = PROJECT / "benchmarks/LOG.md"
LINK = re.compile(r"(!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str  # "docs/data.md"
    language: str
    text: str


def name_of_page(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The code blocks of a page in their order, of one language or of all."""
    found = [
        Block(name_of_page(page), match["language"], match["text"])
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]
    return [block for block in found if language in (None, block.language)]


def commands(block: Block) -> list[str]:
    """The commands of a bash block; a quoted text may go over several lines.

    commands(Block("", "bash", "cd a\\n# then\\npython b.py 'c\\nd'\\n")) -> ["cd a", "python b.py 'c\\nd'"]
    """
    found: list[str] = []
    open_lines = ""
    for line in block.text.splitlines():
        if not open_lines and (not line.strip() or line.startswith("#")):
            continue
        open_lines += line
        try:
            shlex.split(open_lines, comments=True)
        except ValueError:  # a quotation is still open
            open_lines += "\n"
            continue
        found.append(open_lines)
        open_lines = ""
    assert not open_lines, f"{block.page}: a quotation never ends: {open_lines}"
    return found


def six_commands() -> list[str]:
    """The README's block that takes the whole journey by hand, in its order."""
    for block in blocks(PROJECT / "README.md", "bash"):
        lines = commands(block)
        if [script for script in SCRIPTS if any(script in line for line in lines)] == list(SCRIPTS):
            return lines
    raise AssertionError("README.md has no block with all six commands")


def prose(page: Path) -> list[str]:
    """The sentences of a page, no code blocks, tables, headings; a link is its text, code is one word."""
    text = BLOCK.sub("\n\n", page.read_text(encoding="utf-8"))
    lines = ["" if line.startswith(("|", "#", "<")) else line for line in text.splitlines()]
    text = re.sub(r"^\s*(?:[*-]|\d+\.)\s", "\n\n", "\n".join(lines), flags=re.MULTILINE)
    text = LINK.sub(lambda match: match["text"], re.sub(r"`[^`]*`", "code", text)).replace("**", "")
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    return [
        sentence for paragraph in paragraphs for sentence in re.split(r"(?<=[.!?])\s+", paragraph) if sentence
    ]


def anchors(page: Path) -> set[str]:
    """What links may name after #: the headings, as GitHub makes anchors of them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    plain = [LINK.sub(lambda match: match["text"], heading).replace("`", "") for heading in headings]
    found: Counter[str] = Counter()
    for heading in plain:
        found[re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")] += 1
    repeated = {f"{name}-{number}" for name, count in found.items() for number in range(1, count)}
    return {*found, *repeated}
