"""`sidestep tensors info` on sets of both kinds, whole and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from sidestep_core.store.index import open_store, write_index
from sidestep_core.store.legacy import write_pt

RunCli = Callable[..., Any]


@pytest.fixture
def copied(tensors: Path, tmp_path: Path) -> Path:
    """Return a set of three songs to be changed."""
    return Path(shutil.copytree(tensors, tmp_path / "t"))


@pytest.fixture
def pt_set(tmp_path: Path) -> Path:
    """Return a folder of two `.pt` files in Side-Step's layout."""
    (tmp_path / "pt").mkdir()
    for name, frames in (("one", 250), ("two", 50)):
        silence = torch.zeros(frames, 64)
        write_pt(tmp_path / "pt" / f"{name}.pt", torch.randn(frames, 64), torch.randn(5, 64), silence, {})
    return tmp_path / "pt"


def facts(text: str) -> dict[str, str]:
    lines = [line.partition("  ") for line in text.partition("\n\n")[0].splitlines()]
    return {name: value.strip() for name, _, value in lines}


def change_songs(folder: Path, **fields: Any) -> None:
    store = open_store(folder)
    write_index(attrs.evolve(store, songs=tuple(attrs.evolve(song, **fields) for song in store.songs)))


def test_everything_known_of_a_set_is_shown(run_cli: RunCli, tensors: Path) -> None:
    shown = facts(run_cli("tensors", "info", tensors).out)
    assert list(shown) == ["folder", "songs", "audio", "on disk", "format", "model", "prompts", "latents"]
    assert (shown["songs"], shown["audio"], shown["format"]) == ("3", "3.9 s", "safetensors fp32")
    assert (shown["model"], shown["prompts"], shown["latents"]) == ("base", "inference", "sample")


def test_json_has_the_songs_as_well(run_cli: RunCli, tensors: Path) -> None:
    found = json.loads(run_cli("tensors", "info", tensors, "--json").out)
    assert found["songs"][1] == {"name": "1.wav", "seconds": 1.6, "rows": 9, "repeat": 1}
    assert (found["missing"], found["problems"], found["shared"], found["cut_lyrics"]) == ([], [], 0, 0)
    assert found["bytes"] == sum(p.stat().st_size for p in tensors.rglob("*.safetensors"))


def test_songs_with_the_same_audio_are_counted(run_cli: RunCli, copied: Path) -> None:
    change_songs(copied, latents_key=open_store(copied).songs[0].latents_key)
    assert facts(run_cli("tensors", "info", copied).out)["songs"] == "3, 2 songs with the same audio as another"


def test_cut_lyrics_are_counted(run_cli: RunCli, copied: Path) -> None:
    change_songs(copied, cut_lyrics=7)
    assert facts(run_cli("tensors", "info", copied).out)["lyrics cut"] == "3 songs"


def test_lengths_are_drawn_as_bars_that_are_never_empty(run_cli: RunCli, copied: Path) -> None:
    store = open_store(copied)
    lengths = (5.0, 45.0, 7200.0)
    songs = tuple(attrs.evolve(song, seconds=s) for song, s in zip(store.songs, lengths, strict=True))
    write_index(attrs.evolve(store, songs=songs))
    bars = run_cli("tensors", "info", copied).out.partition("\n\n")[2].splitlines()
    assert [bar.split("  ")[0].strip() for bar in bars if bar.strip()] == ["0 to 10 s", "30 to 60 s", "over 600 s"]
    assert all("█" in bar and bar.endswith(" 1") for bar in bars)


@pytest.mark.parametrize("kind", ["latents", "conditioning"])
def test_a_missing_file_is_named_once_and_is_exit_code_1(run_cli: RunCli, copied: Path, kind: str) -> None:
    gone = sorted((copied / kind).iterdir())[1]
    gone.unlink()
    result = run_cli("tensors", "info", copied)
    assert (result.code, result.err) == (1, f"warning: missing: {gone}\n")
    assert json.loads(run_cli("tensors", "info", copied, "--json").out)["missing"] == [str(gone)]


def test_a_truncated_file_is_found_by_verifying_alone(run_cli: RunCli, copied: Path) -> None:
    damaged = sorted((copied / "latents").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert run_cli("tensors", "info", copied).code == 0
    result = run_cli("tensors", "info", copied, "--verify")
    assert (result.code, "every tensor reads" in result.out) == (1, False)
    assert str(damaged) in result.err


def test_headers_that_say_something_else_are_found_by_verifying(run_cli: RunCli, tensors: Path) -> None:
    # these tensors were written without headers
    result = run_cli("tensors", "info", tensors, "--verify")
    assert result.code == 1
    assert "its header says key None, the index" in result.err


def test_a_folder_of_pt_files_is_measured(run_cli: RunCli, pt_set: Path) -> None:
    result = run_cli("tensors", "info", pt_set, "--json")
    found = json.loads(result.out)
    assert (result.code, found["format"], found["seconds"]) == (0, "pt", 12.0)
    assert [(song["name"], song["seconds"], song["rows"]) for song in found["songs"]] == [
        ("one", 10.0, 5),
        ("two", 2.0, 5),
    ]


def test_a_whole_set_verifies(run_cli: RunCli, pt_set: Path) -> None:
    result = run_cli("tensors", "info", pt_set, "--verify")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("\nevery tensor reads as it should\n")


def test_a_damaged_pt_file_is_an_error_that_verifying_tells_from_the_rest(run_cli: RunCli, pt_set: Path) -> None:
    (pt_set / "two.pt").write_bytes(b"PK\x03\x04 not a file of torch")
    result = run_cli("tensors", "info", pt_set)
    assert (result.code, result.out) == (2, "")
    assert "two.pt" in result.err
    result = run_cli("tensors", "info", pt_set, "--verify", "--json")
    assert result.code == 1
    assert len(json.loads(result.out)["problems"]) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is damaged"),
        ("[]", "has format None; this version reads format 1"),
        ('{"format": 2}', "has format 2; this version reads format 1"),
        ('{"format": 1}', "is damaged"),
    ],
)
def test_an_index_that_cannot_be_read_is_named(run_cli: RunCli, copied: Path, content: str, reason: str) -> None:
    (copied / "index.json").write_text(content)
    for command in (("tensors", "info", copied), ("train", "-d", copied, "-o", "run", "--dry-run")):
        result = run_cli(*command)
        assert (result.code, result.out) == (2, "")
    result = run_cli("tensors", "info", copied)
    assert f"'{copied / 'index.json'}' {reason}" in result.err


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no tensor folder at 'nowhere'"), ("empty", "no tensors in 'empty'"), ("file", "no tensor folder at")],
)
def test_what_is_no_set_is_refused(run_cli: RunCli, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    result = run_cli("tensors", "info", name)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "sidestep preprocess" in result.err


def test_a_set_of_another_model_is_trained_on_with_a_warning(
    run_cli: RunCli, copied: Path, tiny_checkpoint: Path
) -> None:
    write_index(attrs.evolve(open_store(copied), model="0" * 32))
    words = ("train", "-c", tiny_checkpoint, "-d", copied, "-o", "run", "--dry-run")
    result = run_cli(*words)
    assert result.code == 0
    assert result.err.startswith(f"warning: the tensors in '{copied}' were made with another model than")
    assert len(json.loads(run_cli(*words, "--json").out)["notices"]) == 1
