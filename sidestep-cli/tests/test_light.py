"""What must stay cheap imports nothing heavy: asked of real processes, by module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core.analysis.rank_map import dataset_hash
from sidestep_core.store.index import Source, StoredSong, TensorStore, open_store, write_index
from sidestep_core.synthetic import write_songs

HEAVY = (
    *("torch", "transformers", "diffusers", "peft", "lycoris", "accelerate", "numpy", "soundfile", "soxr", "rich"),
    *("matplotlib", "tensorboard"),
)
SCRIPT = """
import json, sys
from sidestep_cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
LIGHT = [
    (),
    ("--help",),
    ("--version",),
    ("plugins", "list"),
    ("plugins", "show", "core"),
    ("settings", "show"),
    ("settings", "set", "checkpoint_dir", "models"),
    ("settings", "clear", "checkpoint_dir"),
    ("settings", "path"),
    ("presets", "list"),
    ("presets", "show", "recommended"),
    ("plugins", "list", "--json"),
    ("plugins", "check", "sidestep_cli.plugin"),
    ("plugins", "show", "captioners"),
    ("providers", "list"),
    ("captions", "--provider", "openai", "--lyrics-provider", "genius", "--help"),
    ("history",),
    ("history", "--json"),
    ("history", "show", "done"),
    ("history", "compare", "done", "done"),
    ("history", "delete", "done"),
    ("history", "forget", "done"),
    ("history", "prune"),
    ("audio-analyze", "--help"),
    ("plot", "--help"),
    ("tags", "list", "songs"),
    ("tags", "add", "songs", "--tag", "jazz"),
    ("tags", "set", "songs", "--tag", "jazz"),
    ("tags", "remove", "songs", "--tag", "jazz"),
    ("tags", "clear", "songs", "--dry-run"),
    ("dataset", "--help"),
    ("dataset", "check", "--help"),
    ("convert-sidecars", "songs", "--dry-run"),
    ("export", "--help"),
    ("bench", "--help"),
    ("demo", "--help"),
    ("ask", "--help"),
    ("preview", "--help"),
    ("preprocess", "--help"),
    ("estimate", "--help"),
    ("devices", "--help"),
    ("analyze", "--help"),
    ("train", "--help"),
    ("train", "--preprocess", "--help"),
]


def modules_after(folder: Path, *args: str, code: int = 0) -> list[str]:
    folders = {"SIDESTEP_CONFIG_DIR": str(folder / "config"), "SIDESTEP_DATA_DIR": str(folder / "data")}
    environment = {**os.environ, **folders}
    command = [sys.executable, "-c", SCRIPT, *args]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    ended, modules = json.loads(result.stderr.splitlines()[-1])
    assert ended == code, result.stderr
    return modules  # type: ignore[no-any-return]


def heavy(modules: list[str]) -> list[str]:
    return [name for name in modules if name in HEAVY]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working folder with a song in it."""
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "one.wav").touch()
    (tmp_path / "done" / "final").mkdir(parents=True)
    (tmp_path / "done" / "final" / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "done" / "run.json").write_text('{"name": "done", "status": "complete", "created": 1.0}')
    return tmp_path


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    """Return a tensor folder, as far as its index."""
    key = "0" * 32
    song = StoredSong(name="one.wav", frames=100, rows=10, seconds=4.0, latents_key=key, conditioning_key=key)
    store = TensorStore(
        path=tmp_path / "tensors", songs=(song,), sources={"one.wav": Source(size=1, mtime_ns=1, hash=key)}
    )
    store.path.mkdir()
    write_index(store)
    return store.path


@pytest.mark.parametrize("args", LIGHT, ids=" ".join)
def test_it_imports_no_heavy_library(folder: Path, args: tuple[str, ...]) -> None:
    assert heavy(modules_after(folder, *args)) == []


@pytest.mark.parametrize("args", [(), ("--help",), ("--version",)], ids=" ".join)
def test_the_listing_imports_no_command_and_nothing_of_the_core(folder: Path, args: tuple[str, ...]) -> None:
    modules = modules_after(folder, *args)
    assert [m for m in modules if m.startswith(("sidestep_cli.commands", "sidestep_core", "attr", "pluggy"))] == []


def test_a_command_imports_no_other_commands(folder: Path) -> None:
    modules = modules_after(folder, "plugins", "list")
    assert [m for m in modules if m.startswith("sidestep_cli.commands.")] == ["sidestep_cli.commands.plugins"]


def test_models_are_listed_without_loading_them(folder: Path, tiny_checkpoint: Path) -> None:
    assert heavy(modules_after(folder, "models", "list", "-c", str(tiny_checkpoint))) == []


def test_a_dataset_is_listed_without_a_model_library(tmp_path: Path) -> None:
    write_songs(tmp_path / "songs", seconds=(0.5, 0.5))
    modules = modules_after(tmp_path, "dataset", "-i", "songs")
    # lengths are read by soundfile, which brings numpy
    assert set(heavy(modules)) <= {"numpy", "soundfile", "soxr"}


def test_wrong_usage_is_told_without_loading_anything(folder: Path) -> None:
    for args in (
        ("train", "--adapter-type", "lorra"),
        ("train", "--epochs", "0"),
        ("train", "-d", "nowhere", "-o", "run"),
        ("preprocess", "-i", "songs"),
        ("analyze",),
        ("analyze", "-d", "nowhere"),
        ("analyze", "-d", "nowhere", "--timestep-focus", "loud"),
        ("export", "songs", "-t", "nothing"),
        ("ask", "songs", "save"),
        ("preview", "-o", "a.flac", "--seconds", "0"),
        ("tensors", "info", "nowhere"),
        ("models", "tiny", "made", "--variants", "huge"),
        ("models", "list", "-c", "nowhere"),
    ):
        assert heavy(modules_after(folder, *args, code=2)) == [], args


def test_settings_of_a_whole_run_are_checked_without_loading_anything(folder: Path) -> None:
    (folder / "mine.toml").write_text("[adapter]\ntype = 'lora'\nrank = 0\n")
    modules = modules_after(folder, "train", "--preset", "mine.toml", "--lr", "2", code=2)
    assert heavy(modules) == []


def test_tensors_are_summed_up_without_loading_them(tensors: Path) -> None:
    script = SCRIPT.replace("code = ", "code = 0 * ")
    command = [sys.executable, "-c", script, "tensors", "info", str(tensors)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert heavy(json.loads(result.stderr.splitlines()[-1])[1]) == []


def test_a_run_is_planned_without_loading_anything(folder: Path, tiny_checkpoint: Path, tensors: Path) -> None:
    args = ("train", "-c", str(tiny_checkpoint), "-d", str(tensors), "-o", "run", "--dry-run")
    assert heavy(modules_after(folder, *args)) == []


def test_memory_for_another_card_is_worked_out_without_loading_anything(folder: Path, tiny_checkpoint: Path) -> None:
    assert heavy(modules_after(folder, "estimate", "-c", str(tiny_checkpoint), "--free", "8")) == []


def test_a_rank_map_is_used_and_refused_without_loading_anything(
    folder: Path, tiny_checkpoint: Path, tensors: Path
) -> None:
    args = ("train", "-c", str(tiny_checkpoint), "-d", str(tensors), "-o", "run", "--dry-run")
    rank_map = {
        "version": 2,
        "rank_pattern": {"layers.0.mlp.up_proj": 16},
        "alpha_pattern": {"layers.0.mlp.up_proj": 32},
    }
    known = {"model_variant": "base", "dataset_hash": dataset_hash([open_store(tensors)])}
    (tensors / "fisher_map.json").write_text(json.dumps({**rank_map, **known}))
    assert heavy(modules_after(folder, *args)) == []
    (tensors / "fisher_map.json").write_text(json.dumps(rank_map))
    assert heavy(modules_after(folder, *args, code=2)) == []
