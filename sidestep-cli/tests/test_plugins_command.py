"""`sidestep plugins`: what is shown of plugins of every kind, and what an author is told about a module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.hookspecs import hookimpl
from sidestep_core.settings import Settings
from sidestep_core.specs import ExporterType, ObserverType
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]


class Tape:
    """A plugin with an exporter and an observer."""

    sidestep_api = 1

    @hookimpl
    def sidestep_exporters(self) -> list[ExporterType]:
        """Offer one."""
        return [ExporterType(name="tape", summary="Magnetic tape", target="json:dumps")]

    @hookimpl
    def sidestep_observers(self) -> list[ObserverType]:
        """Offer one."""
        return [ObserverType(name="meter", summary="A needle", target="json:dumps", needs=("no-such-thing",))]


class OtherTape:
    """A plugin that offers a name of the first, and misspells a hook."""

    sidestep_api = 1

    @hookimpl
    def sidestep_exporters(self) -> list[ExporterType]:
        """Offer one."""
        return [ExporterType(name="tape", summary="Sticky tape", target="json:dumps")]

    @hookimpl
    def sidestep_exporter(self) -> None:
        """Do nothing: there is no such hook."""


@pytest.fixture
def toolkit(tmp_path: Path) -> Toolkit:
    settings = Settings(tmp_path / "none.toml")
    return Toolkit(plugins={"tape": Tape(), "other": OtherTape()}, entry_points=False, settings=settings)


def test_the_table_and_the_json_list_the_same(run_cli: RunCli) -> None:
    rows = [line.split()[:3] for line in run_cli("plugins", "list").out.splitlines()[1:]]
    found = json.loads(run_cli("plugins", "list", "--json").out)
    assert rows == [[p["status"], p["name"], p["distribution"]] for p in found]


def test_offers_are_listed_by_kind(run_cli: RunCli, toolkit: Toolkit) -> None:
    text = run_cli("plugins", "list", toolkit=toolkit).out
    assert "exporter tape; observer meter" in text


def test_a_collision_is_shown_with_both_plugins(run_cli: RunCli, toolkit: Toolkit) -> None:
    problems = {p["name"]: p["problems"] for p in json.loads(run_cli("plugins", "list", "--json", toolkit=toolkit).out)}
    assert problems == {
        "tape": ["exporter 'tape' is also offered by other"],
        "other": ["unknown hook sidestep_exporter: not called", "exporter 'tape' is also offered by tape"],
    }


@pytest.mark.parametrize("name", ["core", "sidestep-core"])
def test_a_plugin_is_shown_by_its_name_or_its_distributions(run_cli: RunCli, name: str) -> None:
    text = run_cli("plugins", "show", name).out
    assert text.startswith("plugin  core\n")
    assert "adamw" in text


def test_shown_as_json_it_has_the_traceback_too(run_cli: RunCli, toolkit: Toolkit) -> None:
    found = json.loads(run_cli("plugins", "show", "tape", "--json", toolkit=toolkit).out)
    assert (found["status"], found["traceback"]) == ("ok", "")
    assert [(offer["kind"], offer["missing"]) for offer in found["offers"]] == [
        ("exporter", []),
        ("observer", ["no-such-thing"]),
    ]


def test_what_a_component_needs_is_shown_beside_it(run_cli: RunCli, toolkit: Toolkit) -> None:
    assert "A needle (needs no-such-thing)" in run_cli("plugins", "show", "tape", toolkit=toolkit).out


def test_using_a_component_that_lacks_something_says_what_to_install(
    run_cli: RunCli, tensors: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    toolkit = Toolkit(plugins={"tape": Tape()}, settings=Settings(tmp_path / "none.toml"))
    words = ("-c", tiny_checkpoint, "-d", tensors, "-o", "run", "--max-steps", "1", "--observe", "meter")
    result = run_cli("train", *words, toolkit=toolkit)
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: observer 'meter' needs no-such-thing: pip install no-such-thing\n"
    assert not (tmp_path / "run").exists()


HEAD = "from sidestep_core import hookimpl, config, option\nfrom sidestep_core.specs import *\nsidestep_api = 1\n"
HOOK = "@hookimpl\ndef sidestep_observers():\n    return [ObserverType(name='x', summary='X', target='{}'{})]\n"


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        (HEAD + HOOK.format("json:dumps", ""), 0, "everything in order"),
        (HEAD + HOOK.format("json:dumps", ", needs=('no-such',)"), 0, "X (needs no-such)"),
        (HEAD + HOOK.format("json:nothing", ""), 1, "cannot be loaded from json:nothing"),
        (HEAD + HOOK.format("no_such_module:X", ""), 1, "No module named 'no_such_module'"),
        (HEAD + HOOK.format("json:__name__", ""), 1, "json:__name__ is not callable"),
        (HEAD + HOOK.format("dumps", ""), 1, "must read 'package.module:attribute'"),
        (HEAD + HOOK.format("json:dumps", ", config=dict"), 1, "must be a class made with @config"),
        (HEAD + HOOK.replace("'X'", "'Ends in a stop.'").format("json:dumps", ""), 1, "with no full stop"),
        (HEAD + HOOK.replace("'x'", "'A Name'").format("json:dumps", ""), 1, "must be lower-case words"),
        (HEAD + "import numpy\n", 1, "importing it imports numpy: plugin modules must stay light"),
        (HEAD + "@hookimpl\ndef sidestep_observer():\n    return []\n", 1, "unknown hook sidestep_observer"),
        (HEAD + "@hookimpl\ndef sidestep_observers():\n    raise SystemExit(3)\n", 1, "SystemExit: 3"),
        ("", 1, "written for plugin API None, this is 1"),
    ],
)
def test_an_author_is_told_what_a_module_lacks(
    run_cli: RunCli, tmp_path: Path, request: pytest.FixtureRequest, source: str, code: int, said: str
) -> None:
    name = f"checked_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(source)
    result = run_cli("plugins", "check", name)
    assert result.code == code, result.out + result.err
    assert said in result.out


@pytest.mark.parametrize("module", ["no_such_module", "sidestep_core.no_such", "not a name", "..", ""])
def test_a_module_that_is_not_there_is_an_error(run_cli: RunCli, module: str) -> None:
    result = run_cli("plugins", "check", module)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")


def test_a_module_that_exits_is_an_error_not_an_end(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "leaving_plugin.py").write_text("raise SystemExit(0)")
    result = run_cli("plugins", "check", "leaving_plugin")
    assert (result.code, result.out) == (2, "")
    assert "module 'leaving_plugin' cannot be imported: SystemExit: 0" in result.err


@pytest.mark.parametrize("module", ["adapters", "captioners", "core.builtins", "exporters"])
def test_sidesteps_own_plugins_are_in_order(run_cli: RunCli, module: str) -> None:
    assert run_cli("plugins", "check", f"sidestep_{module}.plugin").code == 0
