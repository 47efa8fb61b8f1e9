"""The index of a tensor folder, and what opening one says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from sidestep_core.errors import StoreError
from sidestep_core.store.index import Source, StoredSong, TensorStore, open_store, read_index, write_index

KEY = "0123456789abcdef" * 2


def song(name: str = "a/song.wav", **fields: object) -> StoredSong:
    known = {"name": name, "frames": 50, "rows": 30, "seconds": 2.0, "latents_key": KEY, "conditioning_key": KEY}
    return StoredSong(**(known | fields))


def store(folder: Path, *songs: StoredSong) -> TensorStore:
    return TensorStore(
        path=folder,
        model="id",
        variant="base",
        conditioning="inference",
        latent="sample",
        dtype="fp32",
        songs=songs,
        sources={"/music/a/song.wav": Source(size=10, mtime_ns=7, hash=KEY)},
    )


def test_an_index_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = store(tmp_path, song(prompt="größer", repeat=3, cut_lyrics=4, source="/music/a/song.wav"))
    write_index(written)
    assert open_store(tmp_path) == written


def test_tensor_files_are_named_by_their_keys(tmp_path: Path) -> None:
    opened = store(tmp_path, song())
    assert opened.latents_file(opened.songs[0]) == tmp_path / "latents" / f"{KEY}.safetensors"
    assert opened.conditioning_file(opened.songs[0]) == tmp_path / "conditioning" / f"{KEY}.safetensors"


def test_ten_thousand_songs_need_only_the_index(tmp_path: Path) -> None:
    write_index(store(tmp_path, *(song(f"{n}.wav") for n in range(10_000))))
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]
    assert len(open_store(tmp_path).songs) == 10_000


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no tensor folder at '.*nowhere'"):
        open_store(tmp_path / "nowhere")


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no tensors in .*neither index\.json nor a \.pt file"):
        open_store(tmp_path)


def test_an_index_without_a_finished_song_asks_to_go_on(tmp_path: Path) -> None:
    write_index(store(tmp_path))
    with pytest.raises(StoreError, match="no finished song yet"):
        open_store(tmp_path)
    assert read_index(tmp_path) == store(tmp_path)


def test_a_folder_without_index_has_none(tmp_path: Path) -> None:
    assert read_index(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", '{"format": 1}', '{"format": 1, "songs": [3]}'])
def test_a_damaged_index_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"index\.json' is damaged \(.*\); delete it and preprocess again") as caught:
        open_store(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_index_that_is_not_text_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(StoreError, match="is damaged"):
        open_store(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2, "songs": []}'])
def test_another_format_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"has format .*; this version reads format 1"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("latents_key", "../../etc/passwd"), ("frames", "50"), ("frames", -1), ("rows", None), ("name", 3), ("extra", 1)],
)
def test_a_wrong_value_in_a_song_is_damage(tmp_path: Path, field: str, value: object) -> None:
    write_index(store(tmp_path, song()))
    data = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    data["songs"][0][field] = value
    (tmp_path / "index.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(StoreError, match="is damaged"):
        open_store(tmp_path)


def test_a_folder_of_pt_files_opens_without_intermediate_files(tmp_path: Path) -> None:
    for name in ("b.pt", "a__song.pt", "c.tmp.pt", "note.txt"):
        (tmp_path / name).write_bytes(b"")
    opened = open_store(tmp_path)
    assert opened.kind == "pt"
    assert [song.name for song in opened.songs] == ["a__song", "b"]
    assert opened.latents_file(opened.songs[0]) == opened.conditioning_file(opened.songs[0]) == tmp_path / "a__song.pt"


def test_a_folder_of_intermediate_files_only_is_empty(tmp_path: Path) -> None:
    (tmp_path / "c.tmp.pt").write_bytes(b"")
    with pytest.raises(StoreError, match="no tensors in"):
        open_store(tmp_path)


def test_a_manifest_chooses_the_files_wherever_it_was_written(tmp_path: Path) -> None:
    samples = ["z.pt", ".\\sub\\y.pt", "C:\\music\\x.pt", "/home/someone/w.pt", "v.tmp.pt"]
    (tmp_path / "manifest.json").write_text(json.dumps({"samples": samples}), encoding="utf-8")
    (tmp_path / "unlisted.pt").write_bytes(b"")
    assert [song.file for song in open_store(tmp_path).songs] == ["z.pt", "sub/y.pt", "x.pt", "w.pt"]


@pytest.mark.parametrize("text", ["{", "[]", '{"samples": 3}', '{"samples": [3]}', '{"samples": [""]}'])
def test_a_manifest_that_makes_no_sense_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    (tmp_path / "a.pt").write_bytes(b"")
    assert [song.file for song in open_store(tmp_path).songs] == ["a.pt"]


def test_writing_an_index_leaves_no_other_file(tmp_path: Path) -> None:
    write_index(store(tmp_path, song()))
    write_index(store(tmp_path, song(), song("b.wav")))
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


def test_songs_can_be_changed_without_touching_the_rest(tmp_path: Path) -> None:
    changed = attrs.evolve(store(tmp_path), songs=(song(),))
    assert changed.model == "id"
    assert len(changed.songs) == 1


def test_opening_a_set_imports_no_model_library(tmp_path: Path) -> None:
    write_index(store(tmp_path, song()))
    code = (
        "import sys; from pathlib import Path; from sidestep_core.store.index import open_store;"
        "from sidestep_core.store.info import store_info; store_info(open_store(Path(sys.argv[1])));"
        "print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    "row",
    [
        {"file": "../precious.txt"},
        {"frames": 0},
        {"rows": True},
        {"seconds": float("nan")},
        {"seconds": -1.0},
        {"latents_key": ""},
    ],
    ids=str,
)
def test_a_song_that_no_run_writes_is_refused(tmp_path, row):
    key = "0" * 32
    song = {"name": "a", "frames": 1, "rows": 1, "seconds": 1.0, "latents_key": key, "conditioning_key": key, **row}
    facts = {"model": "m", "variant": "base", "conditioning": "inference", "latent": "sample", "dtype": "fp32"}
    index = {"format": 1, **facts, "songs": [song], "sources": {}}
    (tmp_path / "index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(StoreError, match="is damaged"):
        open_store(tmp_path)


@pytest.mark.parametrize("name", ["../../x.pt", "C:x.pt", "/far/away/x.pt"])
def test_a_manifest_names_files_of_its_own_folder_only(tmp_path, name):
    (tmp_path / "manifest.json").write_text(json.dumps({"samples": [name]}), "utf-8")
    assert open_store(tmp_path).songs[0].file == "x.pt"
