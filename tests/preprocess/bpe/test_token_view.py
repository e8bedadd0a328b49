"""Tokens as a person sees them."""

from __future__ import annotations

import re

from tokenizers.pre_tokenizers import ByteLevel

from bpe.token_view import Token, byte_of_character, coloured_view, plain_view, tokens_of


def test_the_alphabet_is_the_one_that_tokenizers_spells_bytes_in() -> None:
    assert set(byte_of_character()) == set(ByteLevel.alphabet())
    assert sorted(byte_of_character().values()) == list(range(256))
    for byte in range(128):
        [(spelling, _)] = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
        assert byte_of_character()[spelling] == byte


def test_spellings_become_the_bytes_they_stand_for() -> None:
    assert tokens_of([9, 8], ["Ġos", "Ċ"]) == [Token(9, b" os"), Token(8, b"\n")]


def test_a_pipe_gets_a_line_per_token() -> None:
    tokens = [
        Token(300, b"if"),
        Token(7, b"\n"),
        Token(8, "é".encode()),
        Token(9, b"\xc3"),
        Token(10, b"\t'"),
    ]
    assert plain_view(tokens) == "300\t'if'\n7\t'\\n'\n8\t'é'\n9\tb'\\xc3'\n10\t\"\\t'\"\n"


def test_no_token_of_a_text_can_steer_a_terminal() -> None:
    everything = [Token(0, chr(c).encode()) for c in range(0x3000)] + [
        Token(0, bytes([b])) for b in range(256)
    ]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", coloured_view(everything, 80))
    assert all(c == "\n" or c.isprintable() for c in shown)
    assert all(line.isprintable() for line in plain_view(everything).replace("\t", "").split("\n"))


def test_each_token_has_a_colour_that_its_neighbours_have_not_and_no_colour_passes_a_line_end() -> None:
    tokens = [Token(1, b"a"), Token(2, b"b\n"), Token(3, b"c")]
    lines = coloured_view(tokens, 80).split("\n")
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines] == ["ab⏎", "c", "", " 1  2  3 ", ""]
    assert all(not line or line.endswith("\x1b[0m") for line in lines)
    colours = re.findall(r"\x1b\[[0-9;]*m(?=[abc])", coloured_view(tokens, 80))
    assert colours[0] != colours[1] != colours[2]


def test_the_ids_are_wrapped_at_the_width_of_the_terminal() -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", coloured_view([Token(1000 + i, b"x") for i in range(50)], 40))
    assert max(len(line) for line in shown.split("\n")[2:]) <= 40
    assert coloured_view([], 40) == ""
