"""Texts are compared line by line, however long and repetitive they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.differences import differing_lines

LINES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("a\nb\nc", "a\nx\nc", ("-b", "+x")),
        ("", "a\nb\n", ("+a", "+b")),
        ("a\nb\n", "", ("-a", "-b")),
        ("a\nb\nc\nd", "x\nb\nc\ny", ("-a", "+x", "-d", "+y")),
        ("a\na\n", "a\n", ("-a",)),
        ("same\n", "same", ()),
        ("-- a", "++ a", ("--- a", "+++ a")),
    ],
)
def test_lines_that_go_and_come_are_told(before: str, after: str, lines: tuple[str, ...]) -> None:
    assert differing_lines(before, after) == lines


def test_one_line_among_thousands_of_equal_ones_is_found() -> None:
    song = "la la\n" * 20_000
    assert differing_lines(f"tag: a\n{song}", f"tag: b\n{song}") == ("-tag: a", "+tag: b")


@given(LINES, LINES)
def test_what_goes_and_comes_accounts_for_both_texts(old: list[str], new: list[str]) -> None:
    lines = differing_lines("\n".join(old), "\n".join(new))
    counts = {sign: sorted(line[1:] for line in lines if line[0] == sign) for sign in "-+"}
    assert sorted(old + counts["+"]) == sorted(new + counts["-"])
