"""`sidestep presets`, and starting runs from presets: shipped, saved and as files."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.hookspecs import hookimpl
from sidestep_core.settings import Settings
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return the folder of the user's presets."""
    folder = tmp_path / "config" / "presets"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def plan(run_cli: RunCli, tensors: Path, tiny_checkpoint: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that plans a run and returns its settings."""

    def call(*words: str) -> dict[str, Any]:
        where = ("-c", tiny_checkpoint, "-d", tensors, "-o", "run", "--dry-run", "--json")
        result = run_cli("train", *where, *words)
        assert result.code == 0, result.err
        return json.loads(result.out)["settings"]  # type: ignore[no-any-return]

    return call


def listed(run_cli: RunCli, **kwargs: Any) -> dict[str, dict[str, str]]:
    return {p["name"]: p for p in json.loads(run_cli("presets", "list", "--json", **kwargs).out)}


def test_the_table_and_the_json_list_the_same(run_cli: RunCli, mine: Path) -> None:
    (mine / "mine.toml").write_text("description = 'For tests'\n")
    heading, *rows = run_cli("presets", "list").out.splitlines()
    assert heading.split()[:2] == ["PRESET", "FROM"]
    assert [row.split()[0] for row in rows] == list(listed(run_cli)) == sorted(listed(run_cli))


def test_every_shipped_preset_can_be_shown_as_toml_and_json(run_cli: RunCli) -> None:
    for name, preset in listed(run_cli).items():
        tables = tomllib.loads(run_cli("presets", "show", name).out)
        assert tables.pop("description") == preset["description"]
        assert json.loads(run_cli("presets", "show", name, "--json").out) == tables


def test_what_is_shown_is_a_preset_again(run_cli: RunCli, plan: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "copy.toml").write_text(run_cli("presets", "show", "recommended").out)
    assert plan("--preset", "copy.toml") == plan("--preset", "recommended")


def test_every_shipped_preset_starts_a_run(run_cli: RunCli, plan: Callable[..., Any]) -> None:
    for name in listed(run_cli):
        tables = json.loads(run_cli("presets", "show", name, "--json").out)
        settings = plan("--preset", name)
        for table, values in tables.items():
            assert {key: settings[table][key] for key in values} == values


def test_shipped_presets_keep_the_best_as_published(run_cli: RunCli, plan: Callable[..., Any]) -> None:
    kept = {name: plan("--preset", name)["keep"] for name in listed(run_cli)}
    quick = kept.pop("quick_test")
    assert (quick["save_best"], quick["save_best_after"], quick["early_stop_patience"]) == (False, 0, 0)
    assert len(kept) == 6
    assert {(k["save_best"], k["save_best_after"], k["early_stop_patience"]) for k in kept.values()} == {(True, 200, 0)}


def test_a_users_preset_hides_a_shipped_one(run_cli: RunCli, mine: Path, plan: Callable[..., Any]) -> None:
    (mine / "recommended.toml").write_text("[train]\nepochs = 3\n")
    assert listed(run_cli)["recommended"]["origin"] == "user"
    assert plan("--preset", "recommended")["train"]["epochs"] == 3


def test_a_file_wins_over_a_preset_of_its_name(run_cli: RunCli, tmp_path: Path, plan: Callable[..., Any]) -> None:
    (tmp_path / "recommended.toml").write_text("[train]\nepochs = 4\n")
    assert plan("--preset", "recommended.toml")["train"]["epochs"] == 4
    assert plan("--preset", "recommended")["train"]["epochs"] != 4


def test_the_last_of_two_presets_holds(mine: Path, plan: Callable[..., Any]) -> None:
    (mine / "one.toml").write_text("[train]\nepochs = 3\nbatch_size = 2\n")
    (mine / "two.toml").write_text("[train]\nepochs = 4\n")
    train = plan("--preset", "one", "--preset", "two")["train"]
    assert (train["epochs"], train["batch_size"]) == (4, 1)


def test_a_table_for_preprocessing_is_kept_out_of_a_run_without_it(mine: Path, plan: Callable[..., Any]) -> None:
    (mine / "whole.toml").write_text("[preprocess]\nnormalize = 'peak'\n[train]\nepochs = 3\n")
    settings = plan("--preset", "whole")
    assert settings["train"]["epochs"] == 3
    assert "preprocess" not in settings


def test_a_table_for_preprocessing_is_used_where_there_is_some(run_cli: RunCli, mine: Path, noting: Any) -> None:
    (mine / "whole.toml").write_text("[preprocess]\nnormalize = 'peak'\naudio_dir = 'a'\ntensor_output = 't'\n")
    assert run_cli("train", "--preset", "whole", "--preprocess-only", toolkit=noting).code == 0
    ((config, _),) = noting.tensors
    assert (config.normalize, config.audio_dir, config.tensor_output) == ("peak", Path("a"), Path("t"))


def test_a_damaged_preset_of_the_user_is_named(run_cli: RunCli, mine: Path) -> None:
    (mine / "bad.toml").write_text("[train")
    result = run_cli("presets", "list")
    assert (result.code, result.out) == (2, "")
    assert str(mine / "bad.toml") in result.err


def test_other_files_in_the_folder_are_passed_over(run_cli: RunCli, mine: Path) -> None:
    (mine / "notes.txt").write_text("[train")
    (mine / "bad.toml.bak").write_text("[train")
    assert run_cli("presets", "list").code == 0


@pytest.mark.parametrize("name", ["nothing", "../recommended", "recommended/", "RECOMMENDED"])
def test_a_name_is_looked_up_and_nothing_else(run_cli: RunCli, name: str) -> None:
    result = run_cli("presets", "show", name)
    assert (result.code, result.out) == (2, "")
    assert f"no preset '{name}'; there is " in result.err


class Careless:
    """A plugin that ships a preset nobody can read."""

    sidestep_api = 1

    def __init__(self, path: Path) -> None:
        self.path = path

    @hookimpl
    def sidestep_presets(self) -> list[Path]:
        """Return it."""
        return [self.path]


class Quitting:
    """A plugin that ends the process when it is asked for presets."""

    sidestep_api = 1

    @hookimpl
    def sidestep_presets(self) -> list[Path]:
        """Leave."""
        raise SystemExit("bye")


@pytest.mark.parametrize("kind", ["careless", "missing", "quitting"])
def test_a_plugin_with_bad_presets_costs_itself(run_cli: RunCli, tmp_path: Path, kind: str) -> None:
    (tmp_path / "theirs.toml").write_text("epochs = 3")
    plugin = {
        "careless": Careless(tmp_path / "theirs.toml"),
        "missing": Careless(tmp_path / "gone.toml"),
        "quitting": Quitting(),
    }[kind]
    toolkit = Toolkit(plugins={kind: plugin}, settings=Settings(tmp_path / "none.toml"))
    assert {"recommended", "quick_test"} <= set(listed(run_cli, toolkit=toolkit))
    result = run_cli("presets", "show", "theirs", toolkit=toolkit)
    assert result.code == 2
    assert "error: not loaded: sidestep_presets: " in result.err
