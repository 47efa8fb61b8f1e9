"""`sidestep models` on checkpoint folders as people have them: whole, in parts, odd and empty."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]
BASE = "acestep-v15-base"


@pytest.fixture(scope="module")
def several(make_checkpoint: Callable[..., Path]) -> Path:
    """Return a checkpoint folder of two variants; read only."""
    return make_checkpoint(variants=("turbo", "base"))


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a checkpoint folder to be changed."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoints"))


def listed(run_cli: RunCli, *args: str | Path) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in json.loads(run_cli("models", "list", *args, "--json").out)}


def test_the_table_and_the_json_list_the_same(run_cli: RunCli, several: Path) -> None:
    rows = run_cli("models", "list", "-c", several).out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(listed(run_cli, "-c", several)) == [BASE, "acestep-v15-turbo"]


def test_json_says_what_a_model_is(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    model = listed(run_cli, "-c", tiny_checkpoint)[BASE]
    assert (model["variant"], model["layout"], model["dtype"], model["missing"]) == ("base", "original", "fp32", [])
    assert model["path"] == str(tiny_checkpoint / BASE)
    assert 0 < model["parameters"] < model["bytes"]


def test_the_folder_that_was_searched_is_said_beside_the_table(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    assert run_cli("models", "list", "-c", tiny_checkpoint).err == f"{tiny_checkpoint}\n"


def test_a_model_folder_itself_can_be_named(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    assert list(listed(run_cli, "-c", tiny_checkpoint / BASE)) == [BASE]


def test_a_diffusers_folder_is_a_model(run_cli: RunCli, tiny_diffusers: Path) -> None:
    (model,) = listed(run_cli, "-c", tiny_diffusers).values()
    assert (model["layout"], model["missing"]) == ("diffusers", [])


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        ("vae", "vae (vae)"),
        ("Qwen3-Embedding-0.6B", "text encoder (Qwen3-Embedding-0.6B)"),
        (f"{BASE}/silence_latent.pt", "silence_latent.pt"),
        (f"{BASE}/model.safetensors", "weights (model.safetensors)"),
    ],
)
def test_what_is_missing_is_named(run_cli: RunCli, copied: Path, gone: str, missing: str) -> None:
    shutil.move(copied / gone, copied.parent / "moved")
    assert listed(run_cli)[BASE]["missing"] == [missing]
    assert run_cli("models", "list").out.splitlines()[1].endswith(missing)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", b"{", "is not valid JSON"),
        ("config.json", b"\xff\xfe", "is not valid JSON"),
        ("config.json", b"[]", "holds no JSON object"),
        ("config.json", b'{"model_type": "acestep"}', "config.json"),
        ("model.safetensors", b"\x10", "model.safetensors"),
        ("model.safetensors", b"\xff" * 64, "model.safetensors"),
    ],
)
def test_a_model_that_cannot_be_used_is_named_with_the_reason(
    run_cli: RunCli, copied: Path, file: str, content: bytes, reason: str
) -> None:
    (copied / BASE / file).write_bytes(content)
    result = run_cli("models", "list")
    assert (result.code, result.out) == (0, "")
    warning, nothing = result.err.splitlines()
    assert warning.startswith(f"warning: {BASE} cannot be used: ")
    assert reason in warning
    assert nothing == "no ACE-Step model in 'checkpoints'"


def test_a_damaged_model_does_not_hide_a_good_one(run_cli: RunCli, copied: Path) -> None:
    (copied / "mine").mkdir()
    (copied / "mine" / "config.json").write_text("{")
    result = run_cli("models", "list")
    assert BASE in result.out
    assert "warning: mine cannot be used: " in result.err


def test_a_folder_without_models_says_so(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "vae").mkdir(parents=True)
    result = run_cli("models", "list")
    assert (result.code, result.out, result.err) == (0, "", "no ACE-Step model in 'checkpoints'\n")
    assert listed(run_cli) == {}


def test_a_file_is_no_checkpoint_folder(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    result = run_cli("models", "list", "-c", "model.safetensors")
    assert result.code == 2
    assert "no folder 'model.safetensors', which --checkpoint-dir names" in result.err


def test_other_folders_and_files_are_passed_over(run_cli: RunCli, copied: Path) -> None:
    (copied / "llm").mkdir()
    (copied / "llm" / "config.json").write_text('{"model_type": "qwen3"}')
    (copied / "notes").mkdir()
    (copied / "readme.txt").touch()
    result = run_cli("models", "list")
    assert (len(result.out.splitlines()), result.err) == (2, "checkpoints\n")


def test_a_model_under_another_name_is_trained_by_that_name(run_cli: RunCli, copied: Path, tensors: Path) -> None:
    shutil.copytree(copied / BASE, copied / "my finetune")
    result = run_cli("train", "-d", tensors, "-o", "run", "-M", "my finetune", "--dry-run", "--json")
    assert json.loads(result.out)["model"] == "my finetune"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("turbo", f"no model 'turbo' in 'checkpoints'; there is {BASE}"),
        ("acestep-v15-bass", f"did you mean '{BASE}'"),
        ("../checkpoints", "no model '../checkpoints'"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_those_that_are(
    run_cli: RunCli, copied: Path, tensors: Path, name: str, message: str
) -> None:
    result = run_cli("train", "-d", tensors, "-o", "run", "--model", name, "--dry-run")
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Missing argument 'OUT'"),
        (("made", "--variants", "base,huge"), "no variant 'huge'; there is base, sft, turbo, xl-base"),
        (("made", "--variants", ""), "no variant to write; there is base, sft, turbo, xl-base"),
        (("made", "--variants", " , "), "no variant to write"),
        (("made", "--seed", "one"), "'one' is not a valid integer"),
    ],
)
def test_a_tiny_model_that_makes_no_sense_is_refused(
    run_cli: RunCli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = run_cli("models", "tiny", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert not (tmp_path / "made").exists()


def test_a_tiny_model_and_its_diffusers_copy_are_both_named(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("models", "tiny", "made", "--diffusers", "copy", "--seed", "3")
    assert (result.code, result.out) == (0, "made\ncopy\n")
    assert listed(run_cli, "-c", "made")[BASE]["missing"] == []
    assert listed(run_cli, "-c", "copy")["copy"]["missing"] == []
