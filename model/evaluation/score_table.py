"""The figures of scores.json as text: for a terminal of 40 columns or more, and for the page."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from model_cli import plural, printable

if TYPE_CHECKING:
    from rich.text import Text

LETTERS = "ABCDEFGHIJ"  # head the columns: at most ten models
MUCH_FROM_ONE = 0.30  # of the sample's bytes from one repository: worth a warning
MUCH_KNOWN = 0.05  # of the sample's bytes, copied from the training data: the figure is too good
WIDEST = 100  # columns of a sentence
MOST_BITS = 12.0  # of a token on the darkest background

# Name in scores.json, its label in a terminal and on the page, and its form: number, share or bytes.
ROWS = (
    ("bits_per_byte", "bits per byte", "bits per byte", "number"),
    ("bits_per_byte_by_repository", "bits/byte by repo", "bits per byte, mean of the repositories", "number"),
    ("next_token_right", "next token right", "next token right: the likeliest one", "share"),
    ("next_token_among_five", "right in top five", "next token among the five likeliest", "share"),
    ("bytes_of_right_tokens", "right, by bytes", "bytes whose token was the likeliest", "share"),
    ("names_right", "names right", "names with every token right", "share"),
    ("rest_of_line_right", "rest of line right", "rest of the line right, from every token on", "share"),
    ("whole_line_right", "whole line right", "whole line right, given its indentation", "share"),
    ("bytes_right_in_a_row", "bytes in a row", "bytes right in a row", "bytes"),
)


def table(record: dict[str, Any]) -> str:
    """All of it, for a terminal."""
    sample, models = record["sample"], record["models"]
    repositories = plural(sample["repositories"], "repository", "repositories")
    lines = [
        f"{plural(sample['files'], 'file')} of {repositories},",
        f"{sample['bytes'] / 1e3:,.0f} kB, at most {sample['largest_share']:.0%} from one",
        "",
        f"bits per byte{', with 95 % intervals' if has_intervals(record) else ''}:",
        *ladder(record),
        "",
        *reading_rows(models),
    ]
    if all("writing" in model for model in models):
        places = models[0]["writing"]["places"]
        names = [LETTERS[n] for n in range(len(models))] if len(models) > 1 else ["model"]
        lines += ["", f"written at {plural(places, 'place')}:", in_columns("", [*names, "people"])]
        lines += [in_columns(short, cells) for short, _, cells in writing_rows(models)]
    if any("humaneval" in model for model in models):
        lines += ["", *problem_lines(models)]
    for pair in record.get("comparisons", []):
        lines += ["", *sentence(comparison_in_words(pair))]
    if len(models) == 1:
        lines += ["", *sentence(beside_the_best(record))]
    return "\n".join(lines)


def has_intervals(record: dict[str, Any]) -> bool:
    """Whether the sample has enough repositories for intervals."""
    return any(model["reading"]["figures"]["bits_per_byte"]["interval"] for model in record["models"])


def beside_the_best(record: dict[str, Any]) -> str:
    """ "1.210 bits per byte; PPMd after 10 MB of training text: 1.491" """
    baselines = record["baselines"]["figures"]
    best = min(baselines, key=lambda name: float(baselines[name]["value"]))
    value = record["models"][0]["reading"]["figures"]["bits_per_byte"]["value"]
    return f"{value:.3f} bits per byte; {best}: {baselines[best]['value']:.3f}"


def in_columns(title: str, cells: Sequence[str]) -> str:
    return f"{title:<18}{''.join(f'{cell:>7}' for cell in cells)}".rstrip()


def ladder(record: dict[str, Any]) -> list[str]:
    """Baselines and models by their bits per byte, the highest first."""
    steps = [(figure["value"], name, None) for name, figure in record["baselines"]["figures"].items()]
    for model in record["models"]:
        figure = model["reading"]["figures"]["bits_per_byte"]
        steps.append((figure["value"], model["name"], figure["interval"]))
    return [
        f"{value:.3f}  {name}" + (f", {span(interval, 'number')}" if interval else "")
        for value, name, interval in sorted(steps, key=lambda step: -step[0])
    ]


def reading_rows(models: Sequence[dict[str, Any]]) -> list[str]:
    """The figures of the pass: of one model with its interval, of several in columns."""
    several = len(models) > 1
    lines = [f"{LETTERS[n]}  {model['name']}" for n, model in enumerate(models)] if several else []
    if several:
        lines.append(" " * 18 + "".join(f"{LETTERS[n]:>7}" for n in range(len(models))))
    for name, title, _, form in ROWS[not several :]:  # of one model the ladder has shown the first row
        figures = [model["reading"]["figures"][name] for model in models]
        cells = "".join(f"{number(figure['value'], form):>7}" for figure in figures)
        interval = "" if several else span(figures[0]["interval"], form)
        lines.append(f"{title:<18}{cells}  {interval}".rstrip())
    errors = [model["reading"]["calibration"]["error"] for model in models]
    return [*lines, f"{'calibration error':<18}{''.join(f'{error:>7.3f}' for error in errors)}"]


def writing_rows(models: Sequence[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    """What the models write: short and long title, a cell a model, and one for people where there is one.

    A row without cells heads those below it.
    """
    written = [model["writing"] for model in models]
    everybody = [*(each["model"] for each in written), written[0]["people"]]
    rows: list[tuple[str, str, list[str]]] = []

    def add(short: str, long: str, name: str, form: str) -> None:
        rows.append((short, long, [number(each[name]["value"], form) for each in written]))

    rows.append(("likeliest line:", "The likeliest next line, beside people's", []))
    add("  exact match", "exact match", "next_line_exact", "share")
    add("  edit similarity", "edit similarity", "next_line_similarity", "number")
    add("  F1 of names", "F1 of names", "next_line_names_f1", "number")
    rows.append(("without the judge:", "Without the judge", []))
    add("  valid texts", "texts in which every line can be Python", "free_is_python", "share")
    add("  valid bytes", "bytes before the first line that cannot be", "free_good_bytes", "bytes")
    rows.append(("with the judge:", "With the judge, beside people's code", []))
    add("  texts compile", "texts that compile", "judged_is_valid", "share")
    kept = [number(each["tokens_kept"], "share") for each in written]
    rows.append(("  tokens kept", "tokens kept; the others were refused", kept))
    passes = [number(each["passes_a_token"], "bytes") for each in written]
    rows.append(("  passes per token", "passes through the model per token", passes))
    undefined = [number(each["undefined_in_100_names"] / 100, "share") for each in everybody]
    rows.append(("  undefined names", "names that are undefined", undefined))
    copied = [number(each["copied"], "share") for each in everybody]
    rows.append(("  copied tokens", "tokens copied from the training data, in runs of 30 or more", copied))
    repeated = [number(1 - each["new_grams"], "share") for each in everybody]
    rows.append(("  repeated 4-grams", "runs of four tokens that were there before", repeated))
    if any("gaps" in each for each in written):
        gaps = [each.get("gaps") for each in written]
        cells = [number(gap["exact"]["value"] if gap else None, "share") for gap in gaps]
        rows.append(("filling in a line:", "A hidden line, filled in", []))
        rows.append(("  exact match", "exact match", cells))
        cells = [number(gap["similarity"] if gap else None, "number") for gap in gaps]
        rows.append(("  edit similarity", "edit similarity", cells))
    return rows


def problem_lines(models: Sequence[dict[str, Any]]) -> list[str]:
    """HumanEval: pass@k of each model without the judge and with it, zero passes as a bound."""
    lines = []
    for model in models:
        if "humaneval" not in model:
            continue
        found = model["humaneval"]
        lines.append(f"HumanEval, {model['name']}, {plural(found['samples'], 'program')} each:")
        for row in found["rows"]:
            rates = ", ".join(f"pass@{k} {rate:.1%}" for k, rate in row["pass_at"].items())
            if row["below"] is not None:
                rates = f"0 of {row['programs']:,}, below {row['below']:.2%}"
            lines.append(f"{'with' if row['judged'] else 'without'} the judge: {rates}")
    return lines


def number(value: float | None, form: str) -> str:
    """A figure for a table: 0.4711, "share" -> "47.1 %"."""
    if value is None:
        return "-"
    return (
        f"{100 * value:.1f} %" if form == "share" else f"{value:.3f}" if form == "number" else f"{value:.2f}"
    )


def span(interval: Sequence[float] | None, form: str) -> str:
    """(0.44, 0.5), "share" -> "44.0 to 50.0"; "" for no interval"""
    if not interval:
        return ""
    low, high = (f"{value:.2f}" if form == "number" else number(value, form).removesuffix(" %")
                 for value in interval)  # fmt: skip
    return f"{low} to {high}"


def sentence(text: str) -> list[str]:
    """Its lines on this terminal."""
    return textwrap.wrap(text, min(shutil.get_terminal_size().columns, WIDEST))


def comparison_in_words(pair: dict[str, Any]) -> str:
    """ "old/GPyT needs 0.031 bits per byte more than GPyT (+0.012 to +0.050): worse" """
    interval = f" ({pair['interval'][0]:+.3f} to {pair['interval'][1]:+.3f})" if pair["interval"] else ""
    more = pair.get("bytes_that_would_tell")
    hint = f"; {more / 1e3:,.0f} kB would" if more else ""
    word = "fewer" if pair["difference"] < 0 else "more"
    needs = f"{pair['model']} needs {abs(pair['difference']):.3f} bits per byte {word} than {pair['beside']}"
    return f"{needs}{interval}: {pair['says']}{hint}"


def notes(record: dict[str, Any]) -> list[str]:
    """What a reader of the figures has to know of the sample and of the models."""
    sample, found = record["sample"], []
    if sample["repositories"] < 3:
        found.append(f"only {plural(sample['repositories'], 'repository', 'repositories')}: no intervals")
    elif sample["largest_share"] > MUCH_FROM_ONE:
        found.append(f"{sample['largest_share']:.0%} of the sample comes from one repository")
    weights: dict[str, str] = {}
    for model in record["models"]:
        twin = weights.setdefault(model["weights_sha256"], model["name"])
        if twin != model["name"]:
            found.append(f"{model['name']} has the weights of {twin}")
        known = model["reading"]["known"]
        if known["not_held_out"]:
            some = ", ".join(known["not_held_out"][:3])
            found.append(f"{model['name']} may have learnt some of this: it did not hold out {some}")
        elif known["not_held_out"] is None:
            found.append(f"{model['name']} has no record of what it was trained on: it may know this sample")
        if (known["share"] or 0) > MUCH_KNOWN:
            found.append(
                f"{known['share']:.1%} of this was in the training data of {model['name']}, word for word"
            )
    return found


def explained(tokens: Sequence[tuple[str, float, Any]]) -> Text:
    """A file for a terminal: each line after its bits, each token on a background by its own."""
    from rich.text import Text

    shown, line, cost = Text(), Text(), 0.0
    for text, bits, _ in tokens:
        red, green = int(60 + 130 * min(1.0, bits / MOST_BITS)), int(60 - 30 * min(1.0, bits / MOST_BITS))
        style = f"on rgb({red},{green},30)" if bits >= 1 else ""
        cost += bits
        for number_of_part, part in enumerate(printable_lines(text)):
            if number_of_part:
                shown.append(f"{cost:7.1f}  ", "dim").append_text(line).append("\n")
                line, cost = Text(), 0.0
            line.append(part, style)
    return shown.append(f"{cost:7.1f}  ", "dim").append_text(line) if line or cost else shown


def printable_lines(text: str) -> list[str]:
    """A token's lines without anything that a terminal would obey."""
    return [printable(part.replace("\t", "    ")) for part in text.split("\n")]
