"""The command as a whole: help, errors and exit codes."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import click
import pytest
from sidestep_cli.lazy import LazyCommand
from sidestep_cli.main import SECTIONS, cli
from sidestep_core.errors import ConfigError, ProofError, TrainingDiverged

RunCli = Callable[..., Any]
Add = Callable[[BaseException], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Return a function that adds a command `fail` raising the given error."""

    def add(error: BaseException) -> None:
        @click.command()
        def fail() -> None:
            raise error

        monkeypatch.setitem(sys.modules, "failing", types.SimpleNamespace(fail=fail))
        monkeypatch.setattr(cli, "sections", {"Test": {"fail": LazyCommand("failing:fail", "Fail.")}})

    return add


def test_without_arguments_it_shows_its_help(run_cli: RunCli) -> None:
    bare, asked = run_cli(), run_cli("--help")
    assert bare.out == asked.out
    assert (bare.code, bare.err) == (0, "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command_with_its_line(run_cli: RunCli, flag: str) -> None:
    text = run_cli(flag).out
    width = max(len(name) for commands in SECTIONS.values() for name in commands)
    for title, commands in SECTIONS.items():
        assert f"{title}:\n" in text
        for name, command in commands.items():
            assert f"\n  {name.ljust(width)}  {command.help}\n" in text


@pytest.mark.parametrize("name", [name for section in SECTIONS.values() for name in section])
def test_every_command_has_help_that_begins_as_listed(run_cli: RunCli, name: str) -> None:
    result = run_cli(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: sidestep {name} ")


def test_no_line_of_help_is_wider_than_the_terminal(run_cli: RunCli) -> None:
    for name in [name for section in SECTIONS.values() for name in section]:
        assert max(map(len, run_cli(name, "--help").out.splitlines())) <= 80, name


def test_the_version_is_that_of_the_package(run_cli: RunCli) -> None:
    result = run_cli("--version")
    assert (result.code, result.out) == (0, "sidestep 0.1.0\n")


def test_an_unknown_command_is_an_error_with_a_hint(run_cli: RunCli) -> None:
    result = run_cli("trian")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0].startswith("error: No such command 'trian'")
    assert result.err.splitlines()[-1] == "'sidestep --help' shows what it takes"


def test_an_unknown_option_is_an_error_with_a_hint(run_cli: RunCli) -> None:
    result = run_cli("history", "--limti", "3")
    assert result.code == 2
    assert "--limit" in result.err
    assert "'sidestep history list --help' shows what it takes" in result.err


def test_a_group_without_its_command_shows_help_and_fails(run_cli: RunCli) -> None:
    result = run_cli("plugins")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: sidestep plugins")


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("bad"), 2), (TrainingDiverged("bad"), 3), (ProofError("bad"), 4)]
)
def test_errors_of_users_are_lines_without_a_traceback(
    run_cli: RunCli, failing: Add, error: Exception, code: int
) -> None:
    failing(error)
    result = run_cli("fail")
    assert (result.code, result.out, result.err) == (code, "", "error: bad\n")


def test_each_fault_is_a_line_of_its_own(run_cli: RunCli, failing: Add) -> None:
    failing(ConfigError("one\ntwo"))
    assert run_cli("fail").err == "error: one\nerror: two\n"


def test_errors_of_ours_keep_their_traceback(run_cli: RunCli, failing: Add) -> None:
    failing(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        run_cli("fail")


def test_an_interrupt_is_130(run_cli: RunCli, failing: Add) -> None:
    failing(KeyboardInterrupt())
    assert run_cli("fail").code == 130
