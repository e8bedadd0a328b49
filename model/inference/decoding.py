"""The settings of a completion, with their ranges: options of the command line and of the interactive prompt.

Apart from sampling.py because --help reads them, and must not wait for numpy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """The settings of one completion; the defaults are those of the command line."""

    max_new_tokens: int = 256
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.0
    loop_penalty: float = 2.0
    stop: str = "none"
    samples: int = 1
    seed: int | None = None
    valid: bool = True  # write only what can become code that compiles
    scores: bool = False  # add up the log-probability of what is written


def number_between(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    """A parser of one number for argparse's `type=`, whose error names the allowed range.

    number_between(int, 0, 10)("11") -> ArgumentTypeError: 11 is not a whole number from 0 to 10
    """
    name = "whole number" if kind is int else "number"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(low) - 1
        if not low <= value <= high:  # also refuses nan
            is_bounded = high < LARGEST or value > high
            limits = f"from {low:g} to {high:.10g}" if is_bounded else f"of at least {low:g}"
            raise argparse.ArgumentTypeError(f"{text} is not a {name} {limits}")
        return value

    return parse


def on_or_off(text: str) -> bool:
    """ "on" -> True, "off" -> False"""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text} is neither on nor off")
    return text == "on"


def stop_at(text: str) -> str:
    """ "function" -> "function" """
    if text not in ("function", "statement", "none"):
        raise argparse.ArgumentTypeError(f"{text} is not function, statement or none")
    return text


LARGEST = 2**31 - 1

SETTINGS: dict[str, tuple[Callable[[str], float | str], str]] = {
    "max_new_tokens": (number_between(int, 0, LARGEST), "write at most this many tokens"),
    "temperature": (
        number_between(float, 0, 100),
        "0 = greedy, the likeliest token; higher = more varied",
    ),
    "top_p": (
        number_between(float, 0, 1),
        "keep the likeliest tokens up to this probability; 1 = off",
    ),
    "top_k": (number_between(int, 0, LARGEST), "keep this many of the likeliest tokens; 0 = off"),
    "repetition_penalty": (
        number_between(float, 0.1, 10),
        "make tokens that the text already has less likely; 1 = off",
    ),
    "loop_penalty": (
        number_between(float, 0, 100),
        "make continuing a loop less likely, by this many nats per repetition; 0 = off",
    ),
    "stop": (stop_at, "end after one function, after one statement, or none: at the end of the text"),
    "samples": (number_between(int, 1, 256), "write this many different completions"),
    "seed": (number_between(int, 0, LARGEST), "the same seed writes the same text"),
    "valid": (on_or_off, "write only what compiles: on or off"),
}
"""Each setting's parser and its explanation, for --help and for /help."""
