"""scores.html: scores.json as a page to look at.

It needs nothing else: no script, font or picture from elsewhere, so it can be mailed, archived and opened
without a network. Names, code and completions come from other people and from models, and are escaped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from evaluation.score_table import ROWS, comparison_in_words, notes, number, problem_lines, span, writing_rows

GENERATOR = "GPyT model/evaluate.py"  # how the program knows a page of its own
MODELS = (
    "#e07a1f",
    "#3e7cb1",
    "#5b8c5a",
    "#9a5ba5",
    "#b8860b",
    "#c0504d",
    "#2f8f8f",
    "#6b6b9d",
    "#8c6d4f",
    "#555",
)
INK, MUTED, LINE, PALE = "#1f2933", "#7b8794", "#e4e7eb", "#b8c2cc"
# Of the classes: similar ones have similar colours
CLASS_COLOURS = {
    "new name": "#1f5f99", "seen name": "#7fb2dd", "new attribute": "#2f7d5b", "seen attribute": "#8fcbb0",
    "builtin": "#c9b458", "keyword": "#8a5fa8", "operator": "#c0504d", "number": "#d98880",
    "string": "#e07a1f", "docstring": "#f2b880", "comment": "#e8d5c0", "indentation": "#c4ccd4",
    "newline": "#98a4b0", "blank": "#dfe5ea", "not Python": "#555555", "end of file": "#222222",
}  # fmt: skip
# Of the outcomes of a program, the best first
OUTCOME_COLOURS = {
    "passed": "#5b8c5a", "wrong": "#e0a030", "exception": "#d9805f", "timeout": "#9a5ba5",
    "memory": "#6b6b9d", "not Python": "#98a4b0",
}  # fmt: skip
MOST_BITS = 12.0  # of a token on the darkest background
SHOWN_LINES = 12  # of a prompt

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 60rem; margin: 2.5rem auto;
       padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p, li { color: #52606d } code { font-size: .92em } svg { display: block; width: 100%; height: auto }
.sums { display: flex; gap: 1rem; flex-wrap: wrap }
.sums div { flex: 1; min-width: 8rem; background: #f5f7fa; border-radius: 8px; padding: .7rem 1rem }
.sums b { display: block; font-size: 1.5rem }
table { border-collapse: collapse; width: 100% } tr + tr { border-top: 1px solid #e4e7eb }
td, th { padding: .22rem .5rem; text-align: right; font-weight: normal; white-space: nowrap }
th { color: #7b8794 } td small { color: #7b8794 }
td:first-child, th:first-child { text-align: left; white-space: normal }
pre { background: #f5f7fa; border-radius: 8px; padding: .7rem 1rem; overflow-x: auto; font-size: .82rem;
      line-height: 1.45; margin: .3rem 0 }
pre.new { background: #fff; border: 1px solid #e4e7eb }
.legend span { margin-right: 1rem; white-space: nowrap }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .3rem }
"""


def score_page(record: dict[str, Any], command: str) -> str:
    """The page of a scores.json. command: what was typed, to be repeated."""
    sample, models = record["sample"], record["models"]
    sections = [
        ladder(record),
        figures_table(record),
        where_bits_go(models),
        context_curve(models),
        through_its_eyes(models),
        writing_section(models),
        problems_section(models),
        how_measured(record, command),
    ]
    names = ", ".join(model["name"] for model in models)
    first = models[0]["reading"]["figures"]["bits_per_byte"]
    cards = [
        ("bits per byte", f"{first['value']:.3f}", span(first["interval"], "number") or "no interval"),
        *beside_ppmd(record),
        ("measured on", f"{sample['bytes'] / 1e3:,.0f} kB", f"{sample['files']:,} files, "
         f"{sample['repositories']:,} repositories, {sample['largest_share']:.0%} from one at most"),
    ]  # fmt: skip
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta name="generator" content="{GENERATOR}">',
            f"<title>How good is {escape(names)}?</title>",
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
            f"<h1>How good is {escape(names)}?</h1>",
            "<p>Measured on code that was held out of training. Fewer bits are better: a model needs them to"
            " write the text down.</p>",
            '<div class="sums">' + "".join(card(*each) for each in cards) + "</div>",
            *[f"<p>{escape(note)}</p>" for note in notes(record)],
            *[section for section in sections if section],
            "</body></html>",
            "",
        ]
    )


def card(title: str, figure: str, remark: str) -> str:
    return f"<div>{escape(title)}<b>{escape(figure)}</b>{escape(remark)}</div>"


def beside_ppmd(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The card that puts the first model beside the best compressor."""
    baselines = record["baselines"]["figures"]
    name, figure = min(baselines.items(), key=lambda item: float(item[1]["value"]))
    value = record["models"][0]["reading"]["figures"]["bits_per_byte"]["value"]
    best = float(figure["value"])
    return [(f"beside {name}", f"{value / best:.2f} times", f"its {best:.3f} bits per byte")]


# Sections


def ladder(record: dict[str, Any]) -> str:
    """Baselines and models on one scale, the worst at the top."""
    steps = [(f["value"], name, f["interval"], PALE) for name, f in record["baselines"]["figures"].items()]
    for index, model in enumerate(record["models"]):
        figure = model["reading"]["figures"]["bits_per_byte"]
        steps.append((figure["value"], model["name"], figure["interval"], colour(index)))
    steps.sort(key=lambda step: -step[0])
    low = min(0.9 * min(step[0] for step in steps), 1.0)
    x = scale(low, 8.0, 330, 880)
    drawn = []
    for tick in (0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8):
        if tick >= low:
            drawn.append(line(x(tick), 4, x(tick), 26 * len(steps) + 8, LINE))
            drawn.append(words(x(tick), 26 * len(steps) + 24, f"{tick:g}", MUTED, "middle", 12))
    for row, (value, name, interval, fill) in enumerate(steps):
        y = 20 + 26 * row
        drawn.append(words(0, y + 5, name, INK))
        drawn.append(words(318, y + 5, f"{value:.3f}", INK, "end"))
        if interval:
            left, right = (x(max(low, each)) for each in interval)
            drawn.append(line(left, y, right, y, fill, 3))
        drawn.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="6" fill="{fill}"/>')
    svg = drawing(900, 26 * len(steps) + 32, "bits per byte of baselines and models", drawn)
    return (
        f"<h2>Bits per byte, beside compressors on the same bytes</h2>{svg}"
        "<p>Lines are 95 % intervals. Guessing costs 8 bits a byte. PPMd predicts each byte from the eight"
        " before it; once it has read training text it is what a model has to beat.</p>"
    )


def figures_table(record: dict[str, Any]) -> str:
    models = record["models"]
    head = "".join(f"<th>{escape(model['name'])}</th>" for model in models)
    rows = [f"<tr><th></th>{head}</tr>"]
    for name, _, title, form in ROWS:
        cells = []
        for model in models:
            figure = model["reading"]["figures"][name]
            interval = span(figure["interval"], form)
            cells.append(f"<td>{number(figure['value'], form)} <small>{interval}</small></td>")
        rows.append(f"<tr><td>{title}</td>{''.join(cells)}</tr>")
    errors = "".join(f"<td>{model['reading']['calibration']['error']:.3f}</td>" for model in models)
    rows.append(f"<tr><td>calibration error of the likeliest token</td>{errors}</tr>")
    known = (model["reading"]["known"]["share"] for model in models)
    shares = "".join(f"<td>{'–' if share is None else f'{share:.2%}'}</td>" for share in known)
    rows.append(f"<tr><td>copied from the training data, in runs of 30 tokens</td>{shares}</tr>")
    pairs = "".join(f"<li>{escape(comparison_in_words(pair))}</li>" for pair in record.get("comparisons", []))
    paired = f"<h3>Compared file by file</h3><ul>{pairs}</ul>" if pairs else ""
    return (
        f"<h2>What it gets right</h2><table>{''.join(rows)}</table>"
        "<p>Nothing was sampled for these: at every token of the held-out text the model was asked for its"
        " first choice. Shares of tokens compare models of one tokenizer; bytes and lines compare all.</p>"
        f"{paired}"
    )


def where_bits_go(models: Sequence[dict[str, Any]]) -> str:
    """Bars of bits by class, one a model and one for the bytes, and the table of the same."""
    names = sorted(
        {name for model in models for name in model["reading"]["classes"]},
        key=lambda name: list(CLASS_COLOURS).index(name),
    )
    first = models[0]["reading"]["classes"]
    bars = [("bytes of text", {name: float(first.get(name, {}).get("bytes", 0)) for name in names})]
    for model in models:
        classes = model["reading"]["classes"]
        bars.append(
            (f"bits of {model['name']}", {name: classes.get(name, {}).get("bits", 0.0) for name in names})
        )
    drawn = []
    for row, (title, sizes) in enumerate(bars):
        whole, left, y = sum(sizes.values()) or 1.0, 220.0, 6 + 34 * row
        drawn.append(words(0, y + 17, title, INK))
        for name in names:
            width = 680 * sizes[name] / whole
            tip = f"<title>{name}: {sizes[name] / whole:.1%}</title>"
            drawn.append(
                f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="24" fill="{CLASS_COLOURS[name]}">'
                f"{tip}</rect>"
            )
            left += width
    legend = "".join(
        f'<span><i class="dot" style="background:{CLASS_COLOURS[name]}"></i>{name}</span>' for name in names
    )
    head = "".join(f"<th>bits</th><th>bits per byte, {escape(model['name'])}</th>" for model in models)
    rows = [f"<tr><th>class</th><th>bytes</th>{head}</tr>"]
    size = sum(each["bytes"] for each in first.values()) or 1
    totals = [sum(each["bits"] for each in model["reading"]["classes"].values()) or 1.0 for model in models]
    for name in sorted(names, key=lambda name: -first.get(name, {}).get("bits", 0.0)):
        cells = f"<td>{first.get(name, {}).get('bytes', 0) / size:.1%}</td>"
        for model, total in zip(models, totals, strict=True):
            each = model["reading"]["classes"].get(name, {"bits": 0.0, "bytes": 0})
            each_byte = f"{each['bits'] / each['bytes']:.2f}" if each["bytes"] else "–"
            cells += f"<td>{each['bits'] / total:.1%}</td><td>{each_byte}</td>"
        rows.append(f"<tr><td>{name}</td>{cells}</tr>")
    return (
        f"<h2>Where the bits go</h2>{drawing(900, 34 * len(bars) + 6, 'bits by class of token', drawn)}"
        f'<p class="legend">{legend}</p><table>{"".join(rows)}</table>'
        "<p>A token's bits are spread evenly over its bytes. A seen name stood in the file before.</p>"
    )


def context_curve(models: Sequence[dict[str, Any]]) -> str:
    """Bits per byte by the tokens of context, a line a model."""
    lines = [
        [(step["to"], step["bits"] / step["bytes"]) for step in model["reading"]["curve"]] for model in models
    ]
    points = [point for each in lines for point in each]
    if len(points) < 2 * len(models):
        return ""
    x = scale(min(p[0] for p in points), max(p[0] for p in points), 60, 860)
    low, high = min(p[1] for p in points), max(p[1] for p in points)

    def y(value: float) -> float:
        share: float = (value - low) / max(high - low, 1e-9)
        return 200 - 170 * share

    drawn = [words(50, y(value) + 4, f"{value:.2f}", MUTED, "end", 12) for value in (low, high)]
    for tick in sorted({p[0] for p in points}):
        drawn.append(words(x(tick), 224, f"{tick:,}", MUTED, "middle", 12))
    for index, each in enumerate(lines):
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in each)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour(index)}" stroke-width="2.5"/>')
        drawn += [f'<circle cx="{x(a):.1f}" cy="{y(v):.1f}" r="4" fill="{colour(index)}"/>' for a, v in each]
    svg = drawing(900, 232, "bits per byte by tokens of context", drawn)
    return (
        f"<h2>What context is worth</h2>{model_legend(models)}{svg}"
        "<p>Bits per byte of tokens that have at most this many tokens of the same file before them.</p>"
    )


def through_its_eyes(models: Sequence[dict[str, Any]]) -> str:
    """A held-out file, each token on a background as dark as it was surprising, with the first choices."""
    sections = []
    for model in models:
        seen = model["reading"].get("closely")
        if not seen:
            continue
        spans = []
        for text, bits, choices in seen["tokens"]:
            shade = min(1.0, bits / MOST_BITS)
            tip = escape(f"{bits:.1f} bits; {'  '.join(choices)}", quote=True)
            style = f"background:rgba(224,122,31,{0.85 * shade:.2f})"
            spans.append(f'<span style="{style}" title="{tip}">{escape(text)}</span>')
        title = f"<h3>{escape(model['name'])}</h3>" if len(models) > 1 else ""
        sections.append(f"{title}<pre>{''.join(spans)}</pre>")
    if not sections:
        return ""
    where = escape(
        f"{models[0]['reading']['closely']['repository']}, {models[0]['reading']['closely']['path']}"
    )
    return (
        f"<h2>A file, token by token</h2><p>{where}. The darker a token, the more bits it cost; point at it"
        f" for the model's first three choices.</p>{''.join(sections)}"
    )


def writing_section(models: Sequence[dict[str, Any]]) -> str:
    """What it writes: the table beside what people wrote, some places, and copies with their sources."""
    if not all("writing" in model for model in models):
        return ""
    head = "".join(f"<th>{escape(model['name'])}</th>" for model in models)
    rows = [f"<tr><th></th>{head}<th>people</th></tr>"]
    for _, title, cells in writing_rows(models):
        padded = [*cells, *[""] * (len(models) + 1 - len(cells))]
        tag = "td" if cells else "th"
        rows.append(f"<tr><{tag}>{title}</{tag}>{''.join(f'<td>{cell}</td>' for cell in padded)}</tr>")
    parts = [
        f"<h2>What it writes, at {models[0]['writing']['places']} places in held-out files</h2>",
        f"<table>{''.join(rows)}</table>",
        "<p>Edit similarity is 1 - Levenshtein distance / length of the longer line. People's code is how the"
        " file itself goes on, as long as what the first model wrote.</p>",
    ]
    for number_of, place in enumerate(models[0]["writing"]["examples"]):
        parts.append(f"<h3>{escape(place['repository'])}, {escape(place['path'])}</h3>")
        parts.append(f"<pre>{escape(place['prompt'])}</pre><p>people:</p>")
        parts.append(f'<pre class="new">{escape(place["people"])}</pre>')
        for model in models:
            written = model["writing"]["examples"][number_of]["model"]
            parts.append(f'<p>{escape(model["name"])}:</p><pre class="new">{escape(written)}</pre>')
    copies = [
        f"<li>{escape(model['name'])}, after {escape(copy['after'])}: {copy['tokens']} tokens of"
        f" {escape(copy['repo'])}, {escape(copy['path'])} ({escape(copy['license'] or 'no licence')})</li>"
        for model in models
        for copy in model["writing"]["copies"]
    ]
    return "".join([*parts, f"<h3>Longest copies</h3><ul>{''.join(copies)}</ul>" if copies else ""])


def problems_section(models: Sequence[dict[str, Any]]) -> str:
    """HumanEval: a cell for each problem, by the best outcome of its programs."""
    parts = []
    for model in models:
        for row in model.get("humaneval", {}).get("rows", []):
            cells = []
            for place, (name, outcomes) in enumerate(row["each"].items()):
                best = min(outcomes, key=list(OUTCOME_COLOURS).index)
                x, y = 21 * (place % 41), 21 * (place // 41)
                tip = escape(f"{name}: {', '.join(f'{n} {kind}' for kind, n in Counter(outcomes).items())}")
                cells.append(
                    f'<rect x="{x}" y="{y}" width="18" height="18" rx="2" fill="{OUTCOME_COLOURS[best]}">'
                    f"<title>{tip}</title></rect>"
                )
            title = f"{model['name']}, {'with' if row['judged'] else 'without'} the judge"
            parts.append(f"<p>{escape(title)}</p>{drawing(861, 84, title, cells)}")
    if not parts:
        return ""
    dots = (f'<span><i class="dot" style="background:{c}"></i>{k}</span>' for k, c in OUTCOME_COLOURS.items())
    figures = "".join(f"<li>{escape(each)}</li>" for each in problem_lines(models))
    return (
        f"<h2>HumanEval, problem by problem</h2><ul>{figures}</ul>{''.join(parts)}"
        f'<p class="legend">{"".join(dots)}</p><p>A square is a problem, coloured by its best program.</p>'
    )


def how_measured(record: dict[str, Any], command: str) -> str:
    sample = record["sample"]
    rows = [
        ("command", command),
        ("data", f"{record['data']['name']}, sha256 {record['data']['sha256']}"),
        ("sample", f"{sample['rule']}; sha256 {sample['sha256']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())),
    ]
    for model in record["models"]:
        shape = f"{model['parameters']:,} parameters, context {model['context']:,}"
        shape += f", {model['vocabulary']:,} tokens"
        rows.append((model["name"], f"{shape}; weights sha256 {model['weights_sha256']}"))
        said = model["reading"].get("training")
        if said and said["said"] is not None:
            here = "" if said["here"] is None else f"; here {said['here']:.4f}"
            rows.append((f"{model['name']}, by train.py", f"{said['said']} on {said['bytes']:,} bytes{here}"))
    cells = "".join(
        f"<tr><td>{escape(a)}</td><td style='white-space:normal'>{escape(b)}</td></tr>" for a, b in rows
    )
    return (
        f"<h2>How it was measured</h2><table>{cells}</table>"
        "<p>Each file from its beginning, in windows of the model's context with half overlap, of which the"
        " new half counts. Intervals: a bootstrap of 2,000 draws of repositories, or of files where there are"
        " fewer than twenty.</p>"
    )


# Drawing


def colour(index: int) -> str:
    return MODELS[index % len(MODELS)]


def scale(low: float, high: float, left: float, right: float) -> Callable[[float], float]:
    """A logarithmic scale: where a value lies between two places."""
    width = math.log(high / low) or 1.0
    return lambda value: left + (right - left) * math.log(value / low) / width


def words(x: float, y: float, text: str, fill: str, anchor: str = "start", size: int = 14) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
    return f'<text {place} fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1) -> str:
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {places} stroke="{stroke}" stroke-width="{width}"/>'


def drawing(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    box = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}"'
    return f"<svg {box}>{''.join(parts)}</svg>"


def model_legend(models: Sequence[dict[str, Any]]) -> str:
    dots = "".join(
        f'<span><i class="dot" style="background:{colour(n)}"></i>{escape(model["name"])}</span>'
        for n, model in enumerate(models)
    )
    return f'<p class="legend">{dots}</p>' if len(models) > 1 else ""
