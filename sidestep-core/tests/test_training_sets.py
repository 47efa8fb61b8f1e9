"""Songs of several folders: names, visits, weights, and songs that are held out."""

from pathlib import Path

import attrs
import pytest
from sidestep_core.configs import DataConfig
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.files import hash_text
from sidestep_core.store.index import StoredSong, TensorStore
from sidestep_core.training.sets import TrainSong, hold_out, songs_of


def song(name, repeat=1, audio=None):
    key = "" if audio is None else hash_text(audio)
    return StoredSong(name=name, frames=50, rows=5, seconds=2.0, repeat=repeat, latents_key=key)


def store(path, *songs, **facts):
    defaults = {"model": "a" * 32, "variant": "base", "conditioning": "inference"}
    return TensorStore(path=Path(path), songs=songs, **{**defaults, **facts})


def many(count):
    return songs_of([store("a", *(song(f"{i}.wav", audio=f"{i}") for i in range(count)))], DataConfig())


def names(songs):
    return [song.name for song in songs]


def test_songs_of_one_folder_keep_their_names():
    assert names(songs_of([store("a", song("1.wav"), song("x/2.wav"))], DataConfig())) == ["1.wav", "x/2.wav"]


def test_songs_of_several_folders_are_told_apart_by_the_folder():
    stores = [store("here/a", song("1.wav")), store("b", song("1.wav")), store("there/a", song("1.wav"))]
    assert names(songs_of(stores, DataConfig())) == ["a/1.wav", "b/1.wav", "a (2)/1.wav"]


def test_songs_know_the_folder_they_are_in():
    first, second = store("a", song("1.wav")), store("b", song("1.wav"))
    assert [song.store for song in songs_of([first, second], DataConfig())] == [first, second]


@pytest.mark.parametrize(("repeats", "visits"), [((), [1, 2, 1]), ((3,), [3, 6, 3]), ((3, 5), [3, 6, 5])])
def test_repeats_of_folder_and_song_multiply(repeats, visits):
    stores = [store("a", song("1.wav"), song("2.wav", repeat=2)), store("b", song("3.wav"))]
    made = songs_of(stores, DataConfig(dataset_repeats=repeats))
    assert [song.visits for song in made] == visits


@pytest.mark.parametrize(("weights", "expected"), [((), [1, 1]), ((0.5,), [0.5, 0.5]), ((0.5, 2.0), [0.5, 2.0])])
def test_a_folder_has_a_weight(weights, expected):
    made = songs_of([store("a", song("1.wav")), store("b", song("2.wav"))], DataConfig(dataset_weights=weights))
    assert [song.weight for song in made] == expected


def test_a_song_with_repeat_zero_is_left_out():
    assert names(songs_of([store("a", song("1.wav", repeat=0), song("2.wav"))], DataConfig())) == ["2.wav"]


@pytest.mark.parametrize("setting", ["dataset_repeats", "dataset_weights"])
def test_settings_that_do_not_fit_the_number_of_folders_are_refused(setting):
    flag = "--" + setting.replace("_", "-")
    with pytest.raises(ConfigError, match=f"{flag} has 2 values for 3 folders; give one for all or one for each"):
        songs_of([store(name, song("1.wav")) for name in "abc"], DataConfig(**{setting: (1, 2)}))


@pytest.mark.parametrize("settings", [{"dataset_repeats": (2, 0)}, {"dataset_weights": (1.0, 0.0)}])
def test_a_folder_that_would_not_count_is_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"conditioning": "side-step"},
            "'a' and 'b' cannot be trained on together: conditioning is 'inference' and 'side-step'; "
            "preprocess both alike",
        ),
        (
            {"model": "b" * 32, "variant": "sft"},
            "'a' and 'b' cannot be trained on together: the model it was made with is 'base aaaaaaaa' and "
            "'sft bbbbbbbb'; preprocess both alike",
        ),
        (
            {"conditioning": "", "model": "", "variant": "", "kind": "pt"},
            "'a' and 'b' cannot be trained on together: conditioning is 'inference' and 'not known'; "
            "preprocess both alike",
        ),
    ],
)
def test_folders_of_different_kinds_are_refused_by_what_differs(facts, line):
    with pytest.raises(DatasetError) as error:
        songs_of([store("a", song("1.wav")), store("b", song("2.wav"), **facts)], DataConfig())
    assert str(error.value) == line


def test_a_folder_given_twice_is_refused():
    with pytest.raises(DatasetError, match=r"'a' is given twice; .* with --dataset-repeats"):
        songs_of([store("a", song("1.wav")), store("b/../a", song("1.wav"))], DataConfig())


def test_nothing_is_held_out_unless_asked_for():
    songs = many(10)
    assert hold_out(songs, 0.0, 1) == (songs, ())


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.3, 3), (10, 0.5, 5), (10, 0.01, 1), (2, 0.5, 1)])
def test_a_share_of_the_songs_is_held_out_and_at_least_one(count, share, held):
    trained, kept = hold_out(many(count), share, 1)
    assert (len(trained), len(kept)) == (count - held, held)


def test_no_song_is_on_both_sides_and_none_is_lost():
    songs = many(20)
    trained, held = hold_out(songs, 0.3, 1)
    assert sorted([*names(trained), *names(held)]) == sorted(names(songs))


def test_the_order_of_the_songs_decides_nothing():
    songs = many(20)
    assert {*names(hold_out(songs[::-1], 0.3, 1)[1])} == {*names(hold_out(songs, 0.3, 1)[1])}


def test_the_seed_decides():
    songs = many(20)
    assert {*names(hold_out(songs, 0.3, 1)[1])} != {*names(hold_out(songs, 0.3, 2)[1])}


def test_repeats_do_not_decide():
    songs = many(20)
    often = [attrs.evolve(song, visits=9) for song in songs]
    assert names(hold_out(often, 0.3, 1)[1]) == names(hold_out(songs, 0.3, 1)[1])


def test_songs_of_the_same_audio_stay_on_one_side():
    stores = [store(name, *(song(f"{i}.wav", audio=f"{i}") for i in range(10))) for name in "ab"]
    trained, held = hold_out(songs_of(stores, DataConfig()), 0.3, 1)
    assert len(held) == 6
    assert not {song.audio for song in trained} & {song.audio for song in held}


def test_songs_without_a_key_are_told_apart_by_name():
    made = TrainSong(name="a/1", store=store("a"), stored=song("1"))
    assert made.audio == "a/1"


def test_a_single_song_cannot_be_held_out():
    with pytest.raises(DatasetError, match="--val-split needs at least two songs"):
        hold_out(many(1), 0.1, 1)
