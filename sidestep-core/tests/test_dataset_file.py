"""Dataset files of any tool are read without a silent loss, and ours are read by the others."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import attrs
import pytest
from sidestep_core.dataset import SongSet, read_dataset, scan_folder, write_dataset
from sidestep_core.errors import AudioError, DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three songs: a keyed sidecar, a caption and lyrics pair, and nothing."""
    for name, seconds in (("one_song", 2), ("two", 1), ("three-x_y", 3)):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(2 * 8000 * seconds))
    (tmp_path / "one_song.txt").write_text(
        "caption: warm pad\ngenre: ambient\nbpm: 84.7\nkey: C minor\nsig: 4/4\nrepeat: 2\nlyrics:\n[Verse]\nla la\n"
    )
    (tmp_path / "two.caption.txt").write_text("second caption")
    (tmp_path / "two.lyrics.txt").write_text("[Verse]\nyo")
    return tmp_path


def seconds(path: Path) -> float:
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())


def listed(folder: Path, *samples: Any, **metadata: Any) -> Path:
    """Write a dataset file and return its path."""
    path = folder / "dataset.json"
    path.write_text(json.dumps({"metadata": metadata, "samples": samples}), encoding="utf-8")
    return path


def written(songs: SongSet, path: Path) -> Any:
    assert write_dataset(songs, path, created_at="2025-01-02T03:04:05", seconds=seconds) == ()
    return json.loads(path.read_text(encoding="utf-8"))


def reasons(songs: SongSet) -> list[str]:
    return [problem.reason for problem in songs.problems]


def test_a_folder_is_written_in_the_shape_that_other_tools_read(folder: Path) -> None:
    songs = attrs.evolve(scan_folder(folder), name="nm", custom_tag="dstag", tag_position="append", genre_ratio=25)
    content = written(songs, folder / "dataset.json")
    for sample in content["samples"]:
        assert len(sample["id"]) == 8
        assert int(sample.pop("id"), 16) >= 0
    shared = {"formatted_lyrics": "", "language": "unknown", "custom_tag": "dstag", "prompt_override": None}
    assert content == {
        "metadata": {
            "name": "nm",
            "custom_tag": "dstag",
            "tag_position": "append",
            "created_at": "2025-01-02T03:04:05",
            "num_samples": 3,
            "all_instrumental": False,
            "genre_ratio": 25,
        },
        "samples": [
            {
                "audio_path": "one_song.wav",
                "filename": "one_song.wav",
                "caption": "warm pad",
                "genre": "ambient",
                "lyrics": "[Verse]\nla la",
                "raw_lyrics": "[Verse]\nla la",
                "bpm": 84,
                "keyscale": "C minor",
                "timesignature": "4/4",
                "duration": 2,
                "is_instrumental": False,
                "labeled": True,
                "repeat": 2,
                **shared,
            },
            {
                "audio_path": "three-x_y.wav",
                "filename": "three-x_y.wav",
                "caption": "three x y",
                "genre": "",
                "lyrics": "[Instrumental]",
                "raw_lyrics": "",
                "bpm": None,
                "keyscale": "",
                "timesignature": "",
                "duration": 3,
                "is_instrumental": True,
                "labeled": False,
                "repeat": 1,
                **shared,
            },
            {
                "audio_path": "two.wav",
                "filename": "two.wav",
                "caption": "second caption",
                "genre": "",
                "lyrics": "[Verse]\nyo",
                "raw_lyrics": "[Verse]\nyo",
                "bpm": None,
                "keyscale": "",
                "timesignature": "",
                "duration": 1,
                "is_instrumental": False,
                "labeled": True,
                "repeat": 1,
                **shared,
            },
        ],
    }


def test_what_is_written_reads_back_as_the_same_songs(folder: Path) -> None:
    (folder / "one_song.txt").write_text("caption: 夜 🎹\nbpm: 84\nlang: ja\nprompt_override: genre\nlyrics:\n愛\n")
    songs = attrs.evolve(scan_folder(folder), tag_position="replace", genre_ratio=7)
    written(songs, folder / "dataset.json")
    again = read_dataset(folder / "dataset.json")
    assert [attrs.evolve(s, duration=None) for s in again.songs] == list(songs.songs)
    assert attrs.evolve(again, songs=songs.songs) == songs


def test_a_moved_folder_still_finds_its_songs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    written(scan_folder(folder), folder / "dataset.json")
    moved = folder.rename(tmp_path_factory.mktemp("elsewhere") / "moved")
    assert [song.path.parent for song in read_dataset(moved / "dataset.json").songs] == [moved] * 3


def test_a_dataset_file_beside_the_folder_points_into_it(folder: Path) -> None:
    (folder / "lists").mkdir()
    content = written(scan_folder(folder), folder / "lists" / "dataset.json")
    assert content["samples"][2]["audio_path"] == "../two.wav"
    assert len(read_dataset(folder / "lists" / "dataset.json").songs) == 3


def test_the_same_folder_gives_the_same_file_with_an_id_for_each_song(folder: Path) -> None:
    first, second = (written(scan_folder(folder), folder / "dataset.json") for _ in range(2))
    assert first == second
    assert len({sample["id"] for sample in first["samples"]}) == 3


def test_a_song_whose_length_cannot_be_told_is_listed_and_reported(folder: Path) -> None:
    def refuse(path: Path) -> float:
        raise AudioError("not audio")

    songs = scan_folder(folder)
    problems = write_dataset(songs, folder / "dataset.json", created_at="", seconds=refuse)
    assert [str(p) for p in problems] == [f"{song.path}: not audio" for song in songs.songs]
    assert len(read_dataset(folder / "dataset.json").songs) == 3


def test_a_bare_list_is_read(folder: Path) -> None:
    path = folder / "list.json"
    path.write_text('\ufeff[{"filename": "two.wav", "caption": "c"}]', encoding="utf-8")
    songs = read_dataset(path)
    assert [(s.name, s.caption) for s in songs.songs] == [("two.wav", "c")]
    assert songs.name == "list"


def test_settings_of_the_set_are_read(folder: Path) -> None:
    path = listed(folder, {"filename": "two.wav"}, name="n", custom_tag="t", tag_position="append", genre_ratio=50)
    songs = read_dataset(path)
    assert (songs.name, songs.custom_tag, songs.tag_position, songs.genre_ratio) == ("n", "t", "append", 50)


def test_settings_that_mean_nothing_are_reported_and_get_their_default(folder: Path) -> None:
    songs = read_dataset(listed(folder, {"filename": "two.wav"}, custom_tag=1, tag_position="above", genre_ratio=101))
    assert (songs.custom_tag, songs.tag_position, songs.genre_ratio) == ("", "prepend", 0)
    assert reasons(songs) == [
        "metadata: custom_tag is 1; it must be text",
        "metadata: tag_position is 'above'; it must be prepend, append or replace",
        "metadata: genre_ratio is 101; it must be a whole number from 0 to 100",
    ]


def test_fields_are_read_under_the_names_of_both_tools(folder: Path) -> None:
    ours = {"filename": "two.wav", "keyscale": "C", "timesignature": "3/4", "raw_lyrics": "la", "bpm": 85.0}
    theirs = {"filename": "one_song.wav", "key": "C", "signature": "3/4", "lyrics": "la", "bpm": "85"}
    first, second = read_dataset(listed(folder, ours, theirs)).songs
    assert (first.key, first.signature, first.lyrics, first.bpm) == ("C", "3/4", "la", "85")
    assert (second.key, second.signature, second.lyrics, second.bpm) == ("C", "3/4", "la", "85")


def test_typed_fields_are_read(folder: Path) -> None:
    sample = {"filename": "two.wav", "is_instrumental": True, "repeat": 3, "duration": 61.5, "prompt_override": None}
    (song,) = read_dataset(listed(folder, sample)).songs
    assert (song.instrumental, song.repeat, song.duration, song.prompt_override) == (True, 3, 61.5, "")


def test_a_sample_without_words_is_called_by_its_name(folder: Path) -> None:
    (song,) = read_dataset(listed(folder, {"audio_path": "three-x_y.wav"})).songs
    assert (song.caption, song.lyrics, song.instrumental) == ("three x y", "[Instrumental]", True)


@pytest.mark.parametrize("given", ["/nowhere/two.wav", "gone/two.wav", "C:\\Users\\me\\two.wav"])
def test_a_path_from_another_machine_is_found_by_its_bare_name(folder: Path, given: str) -> None:
    (song,) = read_dataset(listed(folder, {"audio_path": given})).songs
    assert song.path == folder / "two.wav"


def test_a_name_that_several_entries_share_does_not_stand_for_their_paths(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "two.wav").touch()
    samples = ({"audio_path": "a/two.wav", "caption": "one"}, {"audio_path": "b/two.wav", "caption": "other"})
    songs = read_dataset(listed(folder, *samples))
    assert {song.name: song.caption for song in songs.songs} == {"b/two.wav": "other"}
    assert reasons(songs) == [f"samples[0]: no file 'a/two.wav' in '{folder}'"]


def test_an_unknown_key_of_a_sample_is_no_problem(folder: Path) -> None:
    songs = read_dataset(listed(folder, {"filename": "two.wav", "caption": "c", "mood": "dark", "x": {"y": 1}}))
    assert (songs.songs[0].caption, songs.problems) == ("c", ())


def test_the_file_name_is_tried_where_the_path_is_gone(folder: Path) -> None:
    (song,) = read_dataset(listed(folder, {"audio_path": "/nowhere/x.wav", "filename": "two.wav"})).songs
    assert song.name == "two.wav"


def test_songs_elsewhere_have_names_of_their_own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    others = [tmp_path_factory.mktemp("other") / "two.wav" for _ in range(2)]
    for other in others:
        other.touch()
    songs = read_dataset(listed(folder, *({"audio_path": str(p)} for p in (folder / "two.wav", *others)))).songs
    assert [song.path for song in songs] == [folder / "two.wav", *others]
    assert len({song.name for song in songs}) == 3
    assert not any(song.name.startswith(("/", "..")) for song in songs)


def test_every_sample_that_cannot_be_used_is_reported(folder: Path) -> None:
    good = {"filename": "two.wav", "caption": ["x"]}
    samples: tuple[Any, ...] = (
        "text",
        {},
        {"filename": 1},
        {"filename": "gone.wav"},
        {"filename": "\ud800.wav"},
        {"filename": "."},
    )
    songs = read_dataset(listed(folder, *samples, {"filename": "x" * 999}, good, {"audio_path": "./two.wav"}))
    assert [song.caption for song in songs.songs] == ["two"]
    assert [reason.replace(str(folder), "DIR") for reason in reasons(songs)] == [
        "samples[0]: not an object",
        "samples[1]: names no audio_path or filename",
        "samples[2]: names no audio_path or filename",
        "samples[3]: no file 'gone.wav' and no 'gone.wav' in 'DIR'",
        "samples[4]: '\\ud800.wav' is no file name",
        "samples[5]: no file '.' and no '' in 'DIR'",
        f"samples[6]: no file '{'x' * 999}' and no '{'x' * 999}' in 'DIR'",
        "samples[7]: caption must be text or a number",
        "samples[8]: listed more than once; the first entry is used",
    ]


def test_a_file_that_names_no_song_is_refused_with_the_first_three_reasons(folder: Path) -> None:
    path = listed(folder, *({"filename": f"gone{n}.wav"} for n in range(5)))
    with pytest.raises(DatasetError, match=r"which lists 5\n.*gone0.*\n.*gone1.*\n.*gone2[^\n]*$"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read dataset file"),
        ("[" * 100_000, "cannot read dataset file"),
        ('"text"', "is no dataset file"),
        ('{"songs": []}', "is no dataset file"),
        ("[]", "no usable song"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path / "d.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset file"):
        read_dataset(tmp_path / "d.json")


def test_the_folder_of_a_dataset_file_is_made(folder: Path) -> None:
    path = folder / "lists" / "new" / "mine.json"
    assert write_dataset(scan_folder(folder), path, created_at="now", seconds=seconds) == ()
    assert len(read_dataset(path).songs) == len(scan_folder(folder).songs)
