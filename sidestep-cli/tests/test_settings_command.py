"""`sidestep settings`: what is set, how it is shown, and where the other commands use it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.settings import Settings

RunCli = Callable[..., Any]
KEYS = (
    *("checkpoint_dir", "audio_dir", "tensors_dir", "adapters_dir", "disabled"),
    *("provider", "lyrics_provider", "metadata_provider"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the settings file, which need not exist."""
    return tmp_path / "config" / "settings.toml"


def shown(run_cli: RunCli) -> dict[str, Any]:
    return json.loads(run_cli("settings", "show", "--json").out)  # type: ignore[no-any-return]


def test_at_first_nothing_is_set_and_no_file_is_made(run_cli: RunCli, file: Path) -> None:
    assert shown(run_cli) == dict.fromkeys(KEYS)
    assert run_cli("settings", "show").out.count("not set") == len(KEYS)
    assert not file.parent.exists()


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_can_be_set_shown_and_cleared(run_cli: RunCli, file: Path, key: str) -> None:
    result = run_cli("settings", "set", key, "some where")
    assert (result.code, result.out, result.err) == (0, "", f"{key} set in {file}\n")
    assert shown(run_cli)[key] == "some where"
    row = next(line for line in run_cli("settings", "show").out.splitlines() if line.startswith(key))
    assert "  some where  " in row
    result = run_cli("settings", "clear", key)
    assert (result.code, result.err) == (0, f"{key} cleared in {file}\n")
    assert shown(run_cli)[key] is None


def test_setting_one_leaves_the_others(run_cli: RunCli) -> None:
    run_cli("settings", "set", "audio_dir", "a")
    run_cli("settings", "set", "tensors_dir", "t")
    run_cli("settings", "set", "audio_dir", "b")
    assert {k: v for k, v in shown(run_cli).items() if v} == {"audio_dir": "b", "tensors_dir": "t"}


def test_clearing_what_is_not_set_is_fine(run_cli: RunCli) -> None:
    assert run_cli("settings", "clear", "audio_dir").code == 0


def test_a_setting_may_be_named_with_its_table(run_cli: RunCli, file: Path) -> None:
    assert run_cli("settings", "set", "paths.audio_dir", "a").code == 0
    assert tomllib.loads(file.read_text()) == {"paths": {"audio_dir": "a"}}


def test_several_values_are_shown_with_commas_between_them(run_cli: RunCli, file: Path) -> None:
    run_cli("settings", "set", "disabled", "one,two , three")
    assert shown(run_cli)["disabled"] == "one, two, three"
    assert tomllib.loads(file.read_text()) == {"plugins": {"disabled": ["one", "two", "three"]}}


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_value_is_refused_with_how_to_remove_one(run_cli: RunCli, file: Path, text: str) -> None:
    run_cli("settings", "set", "checkpoint_dir", "models")
    result = run_cli("settings", "set", "checkpoint_dir", text)
    assert result.code == 2
    assert "'sidestep settings clear checkpoint_dir' removes what it is set to" in result.err
    assert shown(run_cli)["checkpoint_dir"] == "models"


@pytest.mark.parametrize("command", [("set", "colour", "red"), ("clear", "colour")])
def test_an_unknown_setting_lists_those_there_are(run_cli: RunCli, file: Path, command: tuple[str, ...]) -> None:
    result = run_cli("settings", *command)
    assert (result.code, result.err) == (2, f"error: no setting 'colour'; there is {', '.join(KEYS)}\n")
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[paths", "is not valid TOML"),
        ("[paths]\naudio_dri = 'x'\n", "paths.audio_dri: no such setting; did you mean 'audio_dir'?"),
        ("[plugins]\ndisabled = 'x'\n", "plugins.disabled: expected a list, got 'x'"),
        ("audio_dir = 'x'\n", "'audio_dir' must stand in a table such as [paths]"),
    ],
)
@pytest.mark.parametrize("command", [("settings", "show"), ("presets", "list"), ("plugins", "list"), ("history",)])
def test_a_damaged_file_is_named_by_every_command_that_reads_it(
    run_cli: RunCli, file: Path, command: tuple[str, ...], text: str, reason: str
) -> None:
    file.parent.mkdir()
    file.write_text(text)
    result = run_cli(*command)
    assert (result.code, result.out) == (2, "")
    assert str(file) in result.err
    assert reason in result.err


def test_help_and_the_path_work_with_a_file_that_others_cannot_read(run_cli: RunCli, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("[paths")
    assert run_cli("--help").code == 0
    assert run_cli("settings", "--help").code == 0


def test_a_file_in_the_place_of_the_folder_is_an_error_of_one_line(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("in the way")
    result = run_cli("settings", "set", "audio_dir", "a")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)


def test_tables_of_others_stay(run_cli: RunCli, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("[band]\nlow = 0.5\n")
    run_cli("settings", "set", "audio_dir", "a")
    run_cli("settings", "clear", "audio_dir")
    assert tomllib.loads(file.read_text()) == {"band": {"low": 0.5}}


def test_the_checkpoint_folder_is_used_by_train(
    run_cli: RunCli, tiny_checkpoint: Path, tensors: Path, tmp_path: Path
) -> None:
    run_cli("settings", "set", "checkpoint_dir", tiny_checkpoint)
    assert run_cli("train", "-d", tensors, "-o", "run", "--dry-run").code == 0


def test_a_flag_wins_over_a_setting(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    run_cli("settings", "set", "checkpoint_dir", "nowhere")
    assert run_cli("models", "list", "-c", tiny_checkpoint).code == 0


def test_a_setting_that_names_no_folder_is_blamed(run_cli: RunCli) -> None:
    run_cli("settings", "set", "checkpoint_dir", "nowhere")
    result = run_cli("models", "list")
    assert result.code == 2
    assert result.err.startswith("error: no folder 'nowhere', ")
    assert "the settings" in result.err


def test_a_setting_wins_over_the_working_folder(run_cli: RunCli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    run_cli("settings", "set", "checkpoint_dir", tiny_checkpoint)
    assert "acestep-v15-base" in run_cli("models", "list").out


def test_a_disabled_plugin_is_blocked_and_what_it_offers_is_gone(run_cli: RunCli) -> None:
    run_cli("settings", "set", "disabled", "exporters")
    listed = {p["name"]: p["status"] for p in json.loads(run_cli("plugins", "list", "--json").out)}
    assert (listed["exporters"], listed["core"]) == ("blocked", "ok")
    assert "no exporter 'native'; there is none installed" in run_cli("export", "x", "-t", "native").err


def test_what_one_command_sets_another_process_reads(run_cli: RunCli, file: Path) -> None:
    run_cli("settings", "set", "audio_dir", "a")
    assert Settings.load(file).get("audio_dir") == Path("a")
