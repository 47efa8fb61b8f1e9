"""What commands print: tables, JSON and figures that people can read."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

GAP = "  "
MIN_WRAPPED = 16

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def print_json(value: Any) -> None:
    """Print a value as indented JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def json_line(value: dict[str, Any]) -> str:
    """Return a value as one line of strict JSON: numbers that are not finite become null."""
    return json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"{click.style('warning:', fg='yellow')} {message}", err=True)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), err: bool = False
) -> None:
    """Print aligned columns; on a terminal the last column is wrapped.

    Args:
        headings: one word or two a column.
        rows: cells, which may be styled.
        right: headings of columns with figures, aligned to the right.
        err: print on stderr instead of stdout.
    """
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(headings, *rows, strict=True)]
    aligned = [heading in right for heading in headings]
    indent = sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
    room = max(_width(err) - indent, MIN_WRAPPED)
    for row in [[click.style(heading.upper(), dim=True) for heading in headings], *rows]:
        *cells, last = [_pad(cell, width, r) for cell, width, r in zip(row, widths, aligned, strict=True)]
        first, *more = _wrap(last.rstrip(), room)
        click.echo(GAP.join([*cells, first]).rstrip(), err=err)
        for line in more:
            click.echo(" " * indent + line, err=err)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values below each other on stdout."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        first, *more = _wrap(value, max(_width() - width - len(GAP), MIN_WRAPPED))
        click.echo(f"{click.style(name.ljust(width), dim=True)}{GAP}{first}")
        for line in more:
            click.echo(" " * (width + len(GAP)) + line)


def print_diff(name: str, lines: Sequence[str]) -> None:
    """Print the name of a file and its lines that go (`-`) and come (`+`)."""
    click.echo(click.style(name, bold=True))
    for line in lines:
        text = visible(f"{line[0]} {line[1:]}").rstrip()
        click.echo("  " + click.style(text, fg="green" if line[0] == "+" else "red"))


def visible(text: str) -> str:
    """Return text of somebody's files with signs for characters that would steer the terminal."""
    return text.translate({**{code: 0x2400 + code for code in range(32) if code != ord("\t")}, 127: 0x2421})


def duration(seconds: float) -> str:
    """Return a length of time: `42 s`, `3:07 min`, `2:15 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600:,}:{whole % 3600 // 60:02} h"


def size(count: float) -> str:
    """Return a number of bytes in decimal units: `4.8 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def amount(count: float) -> str:
    """Return a large number in short: `23.6 M`."""
    for unit in ("", " k", " M"):
        if abs(count) < 1000:
            return f"{count:.0f}" if not unit else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.2f} B"


def plural(count: int, word: str) -> str:
    """Return `1 song`, `12 songs`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def shorten(text: str, width: int) -> str:
    """Return the text, its middle left out where it is longer than the width."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def plain_path(path: Path) -> str:
    """Return a path relative to the working folder where it lies inside."""
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _width(err: bool = False) -> int:
    # a file or a pipe gets whole lines: what reads them splits by lines
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else 10_000


def _wrap(text: str, width: int) -> list[str]:
    if len(click.unstyle(text)) <= width:
        return [text]
    return textwrap.wrap(click.unstyle(text), width, break_long_words=False, break_on_hyphens=False) or [""]


def _pad(cell: str, width: int, right: bool) -> str:
    missing = " " * (width - len(click.unstyle(cell)))
    return missing + cell if right else cell + missing
