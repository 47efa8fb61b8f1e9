"""`sidestep presets save|delete|import|export`: presets of one's own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]
THEIRS = {
    "name": "my  one",
    "description": "from Side-Step",
    "rank": 16,
    "alpha": 32,
    "target_modules_str": "q_proj v_proj",
    "epochs": 5,
    "gradient_accumulation": 2,
    "learning_rate": 1e-4,
    "optimizer_type": "adamw8bit",
    "offload_encoder": True,
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return the folder of the user's presets, which is not there yet."""
    return tmp_path / "config" / "presets"


def saved(mine: Path, name: str) -> dict[str, Any]:
    return tomllib.loads((mine / f"{name}.toml").read_text(encoding="utf-8"))


def test_what_is_given_is_saved_and_nothing_else(run_cli: RunCli, mine: Path) -> None:
    result = run_cli("presets", "save", "mine", "-a", "dora", "-r", "8", "--lr", "1e-4", "--description", "Für mich")
    assert (result.code, result.out) == (0, f"{mine / 'mine.toml'}\n")
    assert saved(mine, "mine") == {
        "description": "Für mich",
        "train": {"learning_rate": 1e-4},
        "adapter": {"type": "dora", "rank": 8},
    }


def test_a_saved_preset_starts_the_same_run(run_cli: RunCli, mine: Path, tensors: Path, tiny_checkpoint: Path) -> None:
    flags = ("-a", "lokr", "--lokr-factor", "4", "--target-loss", "0.5", "--no-target-mlp", "-e", "3")
    where = ("-c", tiny_checkpoint, "-d", tensors, "-o", "run", "--dry-run", "--json")
    run_cli("presets", "save", "mine", *flags)
    runs = [json.loads(run_cli("train", *where, *words).out) for words in (flags, ("--preset", "mine"))]
    assert runs[0]["settings"] == runs[1]["settings"]


def test_it_builds_on_another(run_cli: RunCli, mine: Path) -> None:
    run_cli("presets", "save", "mine", "--preset", "vram_8gb", "-r", "8")
    shipped = json.loads(run_cli("presets", "show", "vram_8gb", "--json").out)
    tables = saved(mine, "mine")
    assert tables["train"] == shipped["train"]
    assert tables["adapter"] == {**shipped["adapter"], "rank": 8}


def test_places_stay_out_and_it_is_said(run_cli: RunCli, mine: Path) -> None:
    result = run_cli("presets", "save", "mine", "-o", "out", "-d", "t", "-c", "c", "--device", "cpu", "-e", "3")
    assert saved(mine, "mine") == {"train": {"epochs": 3}}
    assert "model.checkpoint_dir, model.device, data.dataset_dir, run.output_dir" in result.err


def test_one_that_is_there_is_kept_unless_forced(run_cli: RunCli, mine: Path) -> None:
    run_cli("presets", "save", "mine", "-e", "3")
    result = run_cli("presets", "save", "mine", "-e", "4")
    assert result.code == 2
    assert "there is a preset 'mine' of yours already" in result.err
    assert saved(mine, "mine")["train"]["epochs"] == 3
    assert run_cli("presets", "save", "mine", "-e", "4", "--force").code == 0
    assert saved(mine, "mine")["train"]["epochs"] == 4


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "con", "LPT1.x", "a:b", "x" * 65, "a b"])
def test_names_that_no_file_should_have_are_refused(run_cli: RunCli, mine: Path, name: str) -> None:
    result = run_cli("presets", "save", name, "-e", "3")
    assert result.code == 2
    assert "preset name" in result.err
    assert not mine.exists()


def test_bad_settings_are_not_saved(run_cli: RunCli, mine: Path) -> None:
    assert run_cli("presets", "save", "mine", "-e", "0").code == 2
    assert not mine.exists()


def test_ones_own_can_be_deleted(run_cli: RunCli, mine: Path) -> None:
    run_cli("presets", "save", "mine", "-e", "3")
    assert run_cli("presets", "delete", "mine").code == 0
    assert list(mine.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"), [("recommended", "comes with core; only your own"), ("none", "no preset 'none'")]
)
def test_no_other_can_be_deleted(run_cli: RunCli, name: str, words: str) -> None:
    result = run_cli("presets", "delete", name)
    assert result.code == 2
    assert words in result.err


def test_what_is_exported_can_be_imported(run_cli: RunCli, mine: Path, tmp_path: Path) -> None:
    run_cli("presets", "save", "mine", "-e", "3", "-a", "loha", "--description", "Mine")
    assert run_cli("presets", "export", "mine", "shared.toml").out == "shared.toml\n"
    assert run_cli("presets", "import", "shared.toml").code == 0
    assert saved(mine, "shared") == saved(mine, "mine")


def test_an_export_replaces_nothing_unless_forced(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "there.toml").write_text("precious")
    assert run_cli("presets", "export", "recommended", "there.toml").code == 2
    assert (tmp_path / "there.toml").read_text() == "precious"
    assert run_cli("presets", "export", "recommended", "there.toml", "-f").code == 0


def test_presets_of_side_step_are_taken_in(run_cli: RunCli, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text(json.dumps(THEIRS))
    result = run_cli("presets", "import", "theirs.json")
    assert result.code == 0, result.err
    assert saved(mine, "my_one") == {
        "description": "from Side-Step",
        "train": {"learning_rate": 1e-4, "accumulation": 2, "epochs": 5},
        "targets": {"target_modules": ["q_proj", "v_proj"]},
        "adapter": {"type": "lora", "rank": 16, "alpha": 32},
        "optimizer": {"type": "adamw8bit"},
    }


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("bad.toml", "[train]\nepochs = 0\n", "train.epochs: must be at least 1, got 0"),
        ("bad.toml", "[train]\nepoch = 3\n", "train.epoch: no such setting; did you mean 'epochs'?"),
        ("bad.toml", "[adapter]\ntype = 'lorra'\n", "no adapter 'lorra'"),
        ("bad.toml", "[", "cannot be read"),
        ("bad.json", "[]", "must hold a JSON object"),
        ("bad.json", '{"rank": 0}', "must be at least 1, got 0"),
    ],
)
def test_a_preset_that_could_start_no_run_is_refused(
    run_cli: RunCli, mine: Path, tmp_path: Path, file: str, content: str, words: str
) -> None:
    (tmp_path / file).write_text(content)
    result = run_cli("presets", "import", file)
    assert result.code == 2
    assert words in result.err
    assert not mine.exists()
