"""How settings, dataset files and sidecars together make the prompts of a set, without any model running."""

from __future__ import annotations

import json

import attrs
import pytest
from sidestep_core.configs import PreprocessConfig
from sidestep_core.dataset import find_songs
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.model.layout import resolve_model
from sidestep_core.preprocess.finish import make_store
from sidestep_core.preprocess.plan import make_entries, make_job, set_prompts, set_samples

POSITIONS = {"prepend": "zed, a song", "append": "a song, zed", "replace": "zed"}


@pytest.fixture(scope="module")
def job(tiny_checkpoint, tmp_path_factory):
    config = PreprocessConfig(tensor_output=tmp_path_factory.mktemp("out"))
    return make_job(config, resolve_model(tiny_checkpoint, "base"), device="cpu", dtype="fp32", cancelled=lambda: False)


@pytest.fixture
def dataset(tmp_path):
    """Write a dataset file and the (empty) files it names."""

    def write(*samples, **metadata):
        for number, sample in enumerate(samples):
            sample.setdefault("filename", f"{number:03}.wav")
            (tmp_path / sample["filename"]).touch()
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"metadata": metadata, "samples": samples}), encoding="utf-8")
        return path

    return write


@pytest.fixture
def entries_of(job):
    """Return the entries of a run with their prompts set, for songs of ten seconds."""

    def make(**settings):
        config = attrs.evolve(job.config, **settings)
        entries = make_entries(find_songs(config), config)
        for entry in entries:
            set_samples(entry, 480_000, 250)
            set_prompts(attrs.evolve(job, config=config), entry)
        return entries

    return make


def captions(entries):
    return [entry.prompt.split("# Caption\n")[1].split("\n\n# Metas")[0] for entry in entries]


# Tags


@pytest.mark.parametrize(("position", "expected"), POSITIONS.items())
def test_the_position_of_the_dataset_file_counts_where_the_settings_say_nothing(
    dataset, entries_of, position, expected
):
    path = dataset({"caption": "a song"}, custom_tag="zed", tag_position=position)
    assert captions(entries_of(dataset_json=path)) == [expected]


@pytest.mark.parametrize(("position", "expected"), POSITIONS.items())
def test_the_position_of_the_settings_wins_over_the_dataset_file(dataset, entries_of, position, expected):
    path = dataset({"caption": "a song"}, custom_tag="zed", tag_position="append")
    assert captions(entries_of(dataset_json=path, tag_position=position)) == [expected]


def test_the_tag_of_the_settings_wins_over_the_dataset_file_but_not_over_a_song(dataset, entries_of):
    path = dataset({"caption": "a"}, {"caption": "b", "custom_tag": "own"}, custom_tag="set")
    assert captions(entries_of(dataset_json=path)) == ["set, a", "own, b"]
    assert captions(entries_of(dataset_json=path, custom_tag="given")) == ["given, a", "own, b"]


@pytest.mark.parametrize("position", [None, *POSITIONS])
def test_without_a_tag_the_position_means_nothing(dataset, entries_of, position):
    assert captions(entries_of(dataset_json=dataset({"caption": "a song"}), tag_position=position)) == ["a song"]


def test_the_tag_is_noted_with_the_song(job, dataset, entries_of):
    path = dataset({"caption": "a"}, {"caption": "b", "custom_tag": "own"}, custom_tag="set")
    store = make_store(job, [_keyed(entry) for entry in entries_of(dataset_json=path)], {})
    assert [song.tag for song in store.songs] == ["set", "own"]


# Genre and caption


@pytest.mark.parametrize(
    ("of_set", "given", "expected"), [(0, None, 0), (30, None, 30), (30, 0, 0), (30, 80, 80), (0, 100, 100)]
)
def test_the_share_told_by_genre_is_the_settings_or_else_the_sets(dataset, entries_of, of_set, given, expected):
    path = dataset(*({"caption": "words", "genre": "polka"} for _ in range(100)), genre_ratio=of_set)
    assert captions(entries_of(dataset_json=path, genre_ratio=given)).count("polka") == expected


@pytest.mark.parametrize(("ratio", "others"), [(0, "words"), (100, "polka")])
def test_an_override_of_a_song_wins_over_any_share(dataset, entries_of, ratio, others):
    known = {"caption": "words", "genre": "polka"}
    path = dataset({**known}, {**known, "prompt_override": "genre"}, {**known, "prompt_override": "caption"})
    assert captions(entries_of(dataset_json=path, genre_ratio=ratio)) == [others, "polka", "words"]


def test_a_song_without_a_genre_is_told_by_its_caption(dataset, entries_of):
    assert captions(entries_of(dataset_json=dataset({"caption": "words"}), genre_ratio=100)) == ["words"]


def test_a_tag_goes_before_a_genre_as_it_goes_before_a_caption(dataset, entries_of):
    path = dataset({"caption": "words", "genre": "polka"}, custom_tag="zed")
    assert captions(entries_of(dataset_json=path, genre_ratio=100)) == ["zed, polka"]


def test_more_of_the_share_keeps_those_that_were_told_by_genre(dataset, entries_of):
    path = dataset(*({"caption": "words", "genre": "polka"} for _ in range(20)))
    few, more = (
        {entry.song.name for entry in entries_of(dataset_json=path, genre_ratio=ratio) if entry.use_genre}
        for ratio in (20, 60)
    )
    assert few < more


def test_captions_are_taken_as_they_are(dataset, entries_of):
    wild = "{bpm} {0} %s \\n größer 日本 <|endoftext|>"
    assert captions(entries_of(dataset_json=dataset({"caption": wild}))) == [wild]


# Which songs


def test_a_dataset_file_wins_over_a_folder(dataset, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.wav").touch()
    config = PreprocessConfig(dataset_json=dataset({"caption": "a"}), audio_dir=tmp_path / "more")
    assert [song.name for song in find_songs(config).songs] == ["000.wav"]


def test_a_folder_is_described_by_its_sidecars_and_the_settings(tmp_path, entries_of):
    for name, text in (("a", "caption: first\ngenre: ska\n"), ("b", "caption: second\ncustom_tag: own\n")):
        (tmp_path / f"{name}.wav").touch()
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    made = entries_of(audio_dir=tmp_path, custom_tag="zed", tag_position="append", genre_ratio=100)
    assert captions(made) == ["ska, zed", "second, own"]


def test_songs_have_to_be_named():
    with pytest.raises(ConfigError, match="give --audio-dir or --dataset-json"):
        find_songs(PreprocessConfig())


def test_a_dataset_file_whose_songs_are_gone_is_refused(dataset, tmp_path):
    path = dataset({"caption": "a"})
    (tmp_path / "000.wav").unlink()
    with pytest.raises(DatasetError, match=r"no usable song in .*, which lists 1"):
        find_songs(PreprocessConfig(dataset_json=path))


# Repeats and keys


def _keyed(entry):
    entry.latents_key, entry.rows = "0" * 32, 7
    return entry


def test_repeats_reach_the_set(job, dataset, entries_of):
    path = dataset({"caption": "a", "repeat": 3}, {"caption": "b", "repeat": "2"}, {"caption": "c"})
    store = make_store(job, [_keyed(entry) for entry in entries_of(dataset_json=path)], {})
    assert [(song.name, song.repeat) for song in store.songs] == [("000.wav", 3), ("001.wav", 2), ("002.wav", 1)]


def test_repeats_change_no_tensor(dataset, entries_of):
    (once,) = entries_of(dataset_json=dataset({"caption": "a"}))
    (often,) = entries_of(dataset_json=dataset({"caption": "a", "repeat": 9}))
    assert often.conditioning_key == once.conditioning_key


@pytest.mark.parametrize(
    "fields",
    [
        {"bpm": 90},
        {"keyscale": "C major"},
        {"timesignature": "3"},
        {"language": "de"},
        {"lyrics": "oh"},
        {"genre": "x"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_whatever_the_model_is_told_changes_the_key(dataset, entries_of, fields):
    settings = {"genre_ratio": 100, "dataset_json": dataset({"caption": "a", "is_instrumental": False})}
    (before,) = entries_of(**settings)
    dataset({"caption": "a", "is_instrumental": False, **fields})
    (after,) = entries_of(**settings)
    assert after.conditioning_key != before.conditioning_key


def test_songs_told_in_the_same_words_share_their_conditioning(dataset, entries_of):
    first, second, other = entries_of(dataset_json=dataset({"caption": "a"}, {"caption": "a"}, {"caption": "b"}))
    assert first.conditioning_key == second.conditioning_key != other.conditioning_key


def test_the_length_of_the_audio_is_told_and_never_the_noted_one(dataset, entries_of):
    (made,) = entries_of(dataset_json=dataset({"caption": "a", "duration": 999}))
    assert "- duration: 10 seconds\n" in made.prompt
