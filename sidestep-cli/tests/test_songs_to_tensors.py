"""From another program's folder to tensors: songs of one name keep their own words all the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.store.index import open_store
from sidestep_core.store.tensors import read_metadata
from sidestep_core.synthetic import write_songs

RunCli = Callable[..., Any]
ALBUMS = ("one", "two", "three")


@pytest.fixture
def albums(tmp_path: Path) -> Path:
    """Return a folder of three albums, each with a song of the same name described by another program."""
    root = tmp_path / "songs"
    for seed, album in enumerate(ALBUMS):
        (song,) = write_songs(root / album, seconds=[0.5 + 0.1 * seed], seed=seed)
        song.with_suffix(".txt").unlink()
        words = {"caption": f"words of {album}", "bpm": 80 + seed, "lyrics": f"[Verse]\nwe sing of {album}"}
        song.with_suffix(".json").write_text(json.dumps(words))
    return root


def prompts(tensors: Path) -> dict[str, tuple[str, str]]:
    """Return prompt and lyrics of each song of a set, as they stand in its tensor files."""
    store = open_store(tensors)
    found = {}
    for song in store.songs:
        metadata = read_metadata(tensors / "conditioning" / f"{song.conditioning_key}.safetensors")
        found[song.name] = (metadata["prompt"], metadata["lyrics"])
    return found


def preprocess(run_cli: RunCli, checkpoint: Path, *source: str | Path) -> dict[str, tuple[str, str]]:
    words = ("-c", checkpoint, "--output", "tensors", "--device", "cpu", "--precision", "fp32", "--workers", "1")
    result = run_cli("preprocess", *source, *words)
    assert result.code == 0, result.err
    return prompts(Path("tensors"))


@pytest.mark.parametrize("through_a_list", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["folder", "list"])
def test_songs_of_one_name_keep_their_own_words(
    run_cli: RunCli, albums: Path, tiny_checkpoint: Path, through_a_list: bool
) -> None:
    assert run_cli("convert-sidecars", albums).err == "3 sidecars written\n"
    run_cli("tags", "add", albums, "--tag", "zed")
    run_cli("dataset", "--input", albums, "--output", "lists/dataset.json")
    source = ("--dataset-json", "lists/dataset.json") if through_a_list else ("--audio-dir", albums)
    found = preprocess(run_cli, tiny_checkpoint, *source)
    assert len(found) == 3
    for album in ALBUMS:
        ((prompt, lyrics),) = [both for both in found.values() if f"zed, words of {album}\n" in both[0]]
        assert f"- bpm: {80 + ALBUMS.index(album)}\n" in prompt
        assert f"we sing of {album}" in lyrics


@pytest.mark.slow
def test_the_check_prints_the_very_prompts_of_the_tensors(run_cli: RunCli, albums: Path, tiny_checkpoint: Path) -> None:
    run_cli("convert-sidecars", albums)
    made = preprocess(run_cli, tiny_checkpoint, "--audio-dir", albums, "--custom-tag", "zed")
    words = ("--custom-tag", "zed", "--json", "--workers", "1", "-c", tiny_checkpoint)
    told = json.loads(run_cli("dataset", "check", albums, *words).out)["songs"]
    assert {song["name"]: (song["prompt"], song["lyrics"]) for song in told} == made
