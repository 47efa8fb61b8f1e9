"""The published commands, as users type them, from songs to a proven adapter on a tiny checkpoint."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from sidestep_core.synthetic import write_songs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_checkpoint):
    """A working folder with ./checkpoints and ./my_songs."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "checkpoints").symlink_to(tiny_checkpoint)
    write_songs(folder / "my_songs", seconds=(0.6, 0.9, 1.2))
    return folder


def sidestep(place: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SIDESTEP_CONFIG_DIR": str(place / "config"), "COLUMNS": "100"}
    command = [sys.executable, "-m", "sidestep_cli", *shlex.split(line)]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment)


@pytest.fixture(scope="module")
def tensors(place):
    return sidestep(place, "preprocess --audio-dir ./my_songs --tensor-output ./my_tensors --normalize peak")


@pytest.fixture(scope="module")
def training(place, tensors):
    return sidestep(
        place,
        "train --checkpoint-dir ./checkpoints --model base --dataset-dir ./my_tensors --output-dir ./output/my_lora "
        "--epochs 500 --max-steps 6",
    )


def test_preprocess_works_as_published(place, tensors):
    assert tensors.returncode == 0, tensors.stderr
    assert len(json.loads((place / "my_tensors" / "index.json").read_text("utf-8"))["songs"]) == 3


def test_preprocess_warns_about_nothing(tensors):
    assert "warn" not in tensors.stderr.lower()


def test_train_works_as_published(place, training):
    assert training.returncode == 0, training.stderr
    assert (place / "output/my_lora/final/adapter_model.safetensors").is_file()


def test_train_warns_about_nothing(training):
    assert "warn" not in training.stderr.lower()


def test_the_adapter_has_original_names(place, training):
    with safe_open(place / "output/my_lora/final/adapter_model.safetensors", "pt") as file:
        assert "base_model.model.layers.0.self_attn.q_proj.lora_A.weight" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize("target", ["native", "diffusers"])
def test_export_works_as_published(place, training, target):
    result = sidestep(place, f"export --adapter-dir ./output/my_lora/final --target {target}")
    assert result.returncode == 0, result.stderr


def test_dataset_works_as_published(place):
    result = sidestep(place, "dataset --input ./my_songs")
    assert result.returncode == 0, result.stderr
    assert len(json.loads((place / "my_songs" / "dataset.json").read_text("utf-8"))["samples"]) == 3


def test_training_can_preprocess_first(place):
    result = sidestep(
        place,
        "train --preprocess --audio-dir ./my_songs --tensor-output ./inline_tensors --output-dir ./output/inline "
        "--max-steps 1 --rank 4",
    )
    assert result.returncode == 0, result.stderr
    assert (place / "output/inline/final").is_dir()


def test_the_run_is_in_the_history(place, training):
    result = sidestep(place, "history --json")
    assert result.returncode == 0, result.stderr
    assert any(Path(run["path"]).name == "my_lora" for run in json.loads(result.stdout))
