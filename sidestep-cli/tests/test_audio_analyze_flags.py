"""Older flags of `sidestep audio-analyze`: modes choose an analyser; what has no effect any more is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sidestep_core import hookimpl
from sidestep_core.configs import MeasureConfig
from sidestep_core.events import Event, MeasureFinished
from sidestep_core.options import config, option
from sidestep_core.requests import Choice
from sidestep_core.specs import AnalyzerType
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]
WORDS = ("audio-analyze", "--input", "songs")


@config
class InChunks:
    """Settings of an analyser that looks at a song in chunks."""

    chunks: int = option(default=3, help="Chunks of a song.")


def plugin(name: str, settings: type | None = None, needs: tuple[str, ...] = ()) -> Any:
    """Return a plugin with one analyser."""

    class Plugin:
        sidestep_api = 1

        @staticmethod
        @hookimpl
        def sidestep_analyzers() -> list[AnalyzerType]:
            return [AnalyzerType(name=name, summary="For tests", target="a:b", config=settings, needs=needs)]

    return Plugin


class Noting(Toolkit):
    """Notes what is to be measured with what, instead of doing it."""

    def __init__(self, *plugins: Any) -> None:
        named = {f"test{i}": given for i, given in enumerate((plugin("signal"), *plugins))}
        super().__init__(plugins=named, entry_points=False)
        self.choices: list[tuple[MeasureConfig, Choice]] = []

    def measure(self, config: MeasureConfig, analyzer: Choice, **_: Any) -> Iterator[Event]:
        """Note it."""
        self.choices.append((config, analyzer))
        yield MeasureFinished(written=0, complete=0, doubtful=0, rejected=())


@pytest.mark.parametrize(("mode", "analyzer"), [("faf", "signal"), ("mid", "stems"), ("sas", "stems")])
def test_a_mode_chooses_an_analyser(run_cli: RunCli, mode: str, analyzer: str) -> None:
    toolkit = Noting(plugin("stems"))
    result = run_cli(*WORDS, "--mode", mode, toolkit=toolkit)
    assert (result.code, [choice.name for _, choice in toolkit.choices]) == (0, [analyzer])
    assert "no effect" not in result.err


@pytest.mark.parametrize("others", [(), (plugin("stems", needs=("no-such-thing",)),)])
def test_without_stems_a_mode_has_no_effect_and_that_is_said(run_cli: RunCli, others: tuple[Any, ...]) -> None:
    toolkit = Noting(*others)
    result = run_cli(*WORDS, "--mode=sas", toolkit=toolkit)
    assert [choice.name for _, choice in toolkit.choices] == ["signal"]
    assert "--mode has no effect any more: analyzer 'signal' measures in one way\n" in result.err


def test_an_analyser_that_is_named_is_taken_whatever_the_mode(run_cli: RunCli) -> None:
    toolkit = Noting(plugin("stems"))
    run_cli(*WORDS, "--mode", "mid", "--analyzer", "signal", toolkit=toolkit)
    assert [choice.name for _, choice in toolkit.choices] == ["signal"]


def test_chunks_go_to_an_analyser_that_has_them(run_cli: RunCli) -> None:
    toolkit = Noting(plugin("stems", InChunks))
    result = run_cli(*WORDS, "--mode", "sas", "--chunks", "7", toolkit=toolkit)
    assert [choice.config for _, choice in toolkit.choices] == [InChunks(chunks=7)]
    assert "no effect" not in result.err


def test_chunks_of_one_that_has_none_have_no_effect_and_that_is_said(run_cli: RunCli) -> None:
    toolkit = Noting()
    result = run_cli(*WORDS, "--chunks", "7", toolkit=toolkit)
    assert (result.code, len(toolkit.choices)) == (0, 1)
    assert "--chunks has no effect any more: analyzer 'signal' measures songs as a whole\n" in result.err


def test_an_unknown_mode_is_one_line_with_what_there_is(run_cli: RunCli) -> None:
    result = run_cli(*WORDS, "--mode", "best", toolkit=Noting())
    assert (result.code, result.err) == (2, "error: --mode: no 'best'; there is faf, mid, sas\n")


def test_every_published_flag_is_understood(run_cli: RunCli) -> None:
    toolkit = Noting(plugin("stems"))
    words = ("--device", "cpu", "--policy", "overwrite_all", "--mode", "mid", "--chunks", "5")
    assert run_cli("audio-analyze", "-i", "songs", *words, toolkit=toolkit).code == 0
    assert toolkit.choices[0][0] == MeasureConfig(input=Path("songs"), device="cpu", policy="overwrite_all")
