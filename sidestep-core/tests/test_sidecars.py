"""Sidecars read as they were meant, and read back as they were written."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidestep_core.errors import DatasetError
from sidestep_core.sidecars import MergePolicy, Sidecar, merge, parse, read_sidecar, render, sidecar_path, write_sidecar

Form = Literal["NFC", "NFD"]
TEXT_FIELDS = [f.name for f in attrs.fields(Sidecar)]
# lines that a careless writer or reader gets wrong, among any text
NASTY_LINES = st.sampled_from(
    [
        *(
            "caption: x",
            "Lyrics:",
            " KEY : C",
            "lang:en",
            "\x0bsig: 3/4",
            "a\u2028key: b",
            "\u3000bpm: 1",
            "Mood: dark",
        ),
        *("# note", "\t# x", "\\# note", "\\\\key: x", "\\o/", "\ufeffx", "\\\ufeff", "[Verse]", ":", "", " ", "愛 🎹"),
    ]
)
# the first draw builds tables of characters, which takes long on a busy machine
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.lists(st.one_of(NASTY_LINES, st.text(max_size=12)), max_size=5).map("\n".join)


def said(sidecar: Sidecar | None) -> dict[str, str]:
    """Return the fields that say something."""
    assert sidecar is not None
    return {name: value for name, value in attrs.asdict(sidecar).items() if value}


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return tmp_path / "song.wav"


def beside(audio: Path, **texts: str) -> Path:
    """Write files beside a song, named by what follows its stem."""
    for kind, text in texts.items():
        suffix = ".txt" if kind == "txt" else f".{kind}.txt"
        audio.with_suffix(suffix).write_bytes(text.encode())
    return audio


def test_aliases_bom_long_captions_and_keys_inside_lyrics_are_understood() -> None:
    text = (
        "\ufeffCaption: A song: with colon\nsecond line\nTempo: 120.5\nscale: D minor\nsig: 3/4\nlang: en\n"
        "Trigger: foo\nrepeats: 3\nlyrics:\n[Verse]\nkey: not a key\nhello\n"
    )
    assert said(parse(text)) == {
        "caption": "A song: with colon\nsecond line",
        "bpm": "120.5",
        "key": "D minor",
        "signature": "3/4",
        "language": "en",
        "trigger": "foo",
        "repeat": "3",
        "lyrics": "[Verse]\nkey: not a key\nhello",
    }


def test_fields_are_written_in_one_order_the_music_always_and_the_lyrics_last() -> None:
    sidecar = Sidecar(
        lyrics="[Verse]\nla", caption="cap", is_instrumental=False, repeat="2", custom_tag="tg", key="C", genre="g"
    )
    assert render(sidecar) == (
        "caption: cap\ngenre: g\nbpm: \nkey: C\nsignature: \nis_instrumental: false\ncustom_tag: tg\nrepeat: 2\n"
        "lyrics:\n[Verse]\nla\n"
    )


@PATIENT
@given(st.fixed_dictionaries({}, optional={name: TEXTS for name in TEXT_FIELDS}))
def test_whatever_is_written_reads_back_the_same(fields: dict[str, str]) -> None:
    sidecar = Sidecar(**fields)
    assert parse(render(sidecar)) == sidecar


@PATIENT
@given(TEXTS)
def test_writing_what_was_read_is_stable(text: str) -> None:
    assert parse(render(parse(text))) == parse(text)


@PATIENT
@given(TEXTS)
def test_a_windows_file_with_a_bom_says_the_same(caption: str) -> None:
    text = render(Sidecar(caption=caption, lyrics=caption))
    assert parse("\ufeff" + text.replace("\n", "\r\n")) == parse(text)


def test_text_survives_the_disk_as_it_is(audio: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Café")
    sidecar = Sidecar(caption=f"{decomposed} Café 🎹\n夜に駆ける", lyrics="# not a comment\n\ncaption: not a caption")
    write_sidecar(audio, sidecar)
    assert read_sidecar(audio) == sidecar


def test_a_megabyte_of_lyrics_survives_the_disk(audio: Path) -> None:
    sidecar = Sidecar(lyrics="\n".join(f"# line {n}: 愛してる" for n in range(40_000)))
    assert len(sidecar.lyrics.encode()) > 1_000_000
    write_sidecar(audio, sidecar)
    assert read_sidecar(audio) == sidecar


def test_numbers_and_booleans_may_be_passed() -> None:
    assert said(Sidecar(bpm=120, is_instrumental=True, duration=1.5, genre=None)) == {
        "bpm": "120",
        "is_instrumental": "true",
        "duration": "1.5",
    }


def test_comments_are_no_part_of_a_value_and_are_kept_at_the_top() -> None:
    sidecar = parse("caption: warm\n# by hand\npad\n  # bpm: 90\nlyrics:\n# sung\n")
    assert said(sidecar) == {"caption": "warm\npad", "comments": "by hand\nbpm: 90", "lyrics": "# sung"}
    assert render(sidecar).startswith("# by hand\n# bpm: 90\ncaption: warm\npad\n")


def test_a_line_with_an_unknown_key_stays_in_a_caption() -> None:
    assert said(parse("caption: slow\nMood: dark\nbpm: 60\n")) == {"caption": "slow\nMood: dark", "bpm": "60"}


def test_an_unknown_key_behind_any_other_value_is_kept_and_no_part_of_it() -> None:
    sidecar = parse("genre: rock\nmood: dark\n  and slow\nbpm: 60\nEnergy: high\ncustom_tag: tg\nsinger: Ann\n")
    assert said(sidecar) == {
        "genre": "rock",
        "bpm": "60",
        "custom_tag": "tg",
        "other": "mood: dark\n  and slow\nEnergy: high\nsinger: Ann",
    }
    assert parse(render(sidecar)) == sidecar


def test_a_second_line_without_a_key_still_continues_any_value() -> None:
    assert parse("genre: rock\nand roll\nbpm: 60\n").genre == "rock\nand roll"


def test_lines_before_the_first_key_are_kept_when_rewritten() -> None:
    sidecar = parse("title: Night\nartist: Ann\nbpm: 60\n")
    assert said(sidecar) == {"other": "title: Night\nartist: Ann", "bpm": "60"}
    assert render(sidecar).startswith("title: Night\nartist: Ann\ncaption: \n")


def test_a_value_line_like_a_key_or_a_comment_is_written_behind_a_backslash() -> None:
    text = render(Sidecar(caption="a\nbpm: high\n# one\nMood: dark", genre="g\nMood: dark"))
    assert text.startswith("caption: a\n\\bpm: high\n\\# one\nMood: dark\ngenre: g\n\\Mood: dark\nbpm: ")


def test_backslashes_that_escape_nothing_are_text() -> None:
    assert parse("caption: a\n\\o/ yeah").caption == "a\n\\o/ yeah"


def test_blank_lines_inside_a_value_stay_and_those_around_it_go() -> None:
    assert parse("caption:  \n a\n\nb \n\ngenre: c").caption == "a\n\nb"


def test_the_last_of_several_equal_keys_that_says_something_counts() -> None:
    assert parse("tempo: 90\nbpm: 100\nbpm:\n").bpm == "100"


def test_lyrics_may_begin_on_the_line_of_their_key() -> None:
    assert parse("bpm: 90\nlyrics: one\ntwo").lyrics == "one\ntwo"


def test_text_without_a_key_is_lyrics_as_it_stands() -> None:
    assert said(parse("\ufeff[Verse]\r\n# hello\r\nMood: dark\r\n")) == {"lyrics": "[Verse]\n# hello\nMood: dark"}


def test_lyrics_in_which_a_line_begins_like_a_key_are_lyrics() -> None:
    text = "[Verse]\nyou are the\nkey: to my heart"
    assert said(parse(text)) == {"lyrics": text}


def test_a_song_without_files_beside_it_has_no_sidecar(audio: Path) -> None:
    assert read_sidecar(audio) is None


def test_a_sidecar_without_a_caption_is_still_read_by_its_keys(audio: Path) -> None:
    beside(audio, txt="custom_tag: tg\nbpm: 90\n")
    assert said(read_sidecar(audio)) == {"custom_tag": "tg", "bpm": "90"}


def test_a_caption_and_lyrics_pair_is_read(audio: Path) -> None:
    beside(audio, caption="\ufeffwarm\n", lyrics="[Verse]\nla\n")
    assert said(read_sidecar(audio)) == {"caption": "warm", "lyrics": "[Verse]\nla"}


def test_half_a_pair_is_enough(audio: Path) -> None:
    assert said(read_sidecar(beside(audio, caption="warm"))) == {"caption": "warm"}


def test_a_pair_fills_what_the_keyed_sidecar_leaves_empty(audio: Path) -> None:
    beside(audio, txt="bpm: 90\nlyrics:\nown\n", caption="warm", lyrics="other")
    assert said(read_sidecar(audio)) == {"bpm": "90", "caption": "warm", "lyrics": "own"}


def test_a_pair_comes_before_a_text_without_keys(audio: Path) -> None:
    beside(audio, txt="plain text", caption="warm", lyrics="la")
    assert said(read_sidecar(audio)) == {"caption": "warm", "lyrics": "la"}


def test_a_text_without_keys_alone_is_lyrics(audio: Path) -> None:
    assert said(read_sidecar(beside(audio, txt="[Verse]\nla\n"))) == {"lyrics": "[Verse]\nla"}


def test_an_empty_sidecar_says_nothing(audio: Path) -> None:
    assert read_sidecar(beside(audio, txt="")) == Sidecar()


def test_text_in_another_encoding_is_refused_by_name(audio: Path) -> None:
    audio.with_suffix(".txt").write_bytes("caption: café".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"song\.txt: not UTF-8 text \(byte 12\)"):
        read_sidecar(audio)


def test_a_folder_in_the_place_of_a_sidecar_is_refused_by_name(audio: Path) -> None:
    audio.with_suffix(".txt").mkdir()
    with pytest.raises(DatasetError, match=r"song\.txt: cannot be read"):
        read_sidecar(audio)


@pytest.mark.parametrize(("song", "text"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_of_song_and_sidecar_may_be_encoded_differently(tmp_path: Path, song: Form, text: Form) -> None:
    audio = tmp_path / unicodedata.normalize(song, "Été.wav")
    existing = tmp_path / unicodedata.normalize(text, "Été.txt")
    existing.write_text("bpm: 90")
    assert said(read_sidecar(audio)) == {"bpm": "90"}
    assert write_sidecar(audio, Sidecar(bpm="91")) == existing


def test_of_a_known_folder_only_files_that_are_there_are_read(tmp_path: Path) -> None:
    audio = tmp_path / unicodedata.normalize("NFC", "Été.wav")
    name = unicodedata.normalize("NFD", "Été.caption.txt")
    (tmp_path / name).write_text("warm")
    beside(audio, lyrics="la")
    assert said(read_sidecar(audio, among={name})) == {"caption": "warm"}
    assert read_sidecar(audio, among=()) is None


def test_dots_in_the_name_of_a_song_stay(tmp_path: Path) -> None:
    assert sidecar_path(tmp_path / "take.2.final.wav").name == "take.2.final.txt"


def test_what_is_replaced_is_kept_once_beside_it(audio: Path) -> None:
    for caption in ("one", "two", "three"):
        write_sidecar(audio, Sidecar(caption=caption))
    assert sorted(p.name for p in audio.parent.iterdir()) == ["song.txt", "song.txt.bak"]
    assert parse(audio.with_suffix(".txt.bak").read_text()).caption == "two"


def test_writing_the_same_again_changes_no_file(audio: Path) -> None:
    path = write_sidecar(audio, Sidecar(caption="one"))
    before = path.stat()
    write_sidecar(audio, Sidecar(caption="one"))
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not audio.with_suffix(".txt.bak").exists()


KNOWN = Sidecar(caption="old", bpm="90", custom_tag="tag")
NEW = Sidecar(caption="new", lyrics="new", bpm="100", genre="new", custom_tag="new", language="en")


@pytest.mark.parametrize(
    ("policy", "known", "expected"),
    [
        ("fill_missing", KNOWN, ("old", "new", "90", "new", "tag", "en")),
        ("overwrite_caption", KNOWN, ("new", "new", "90", "new", "tag", "en")),
        ("overwrite_lyrics", attrs.evolve(KNOWN, lyrics="old"), ("old", "new", "90", "new", "tag", "en")),
        ("fill_missing", attrs.evolve(KNOWN, lyrics="old"), ("old", "old", "90", "new", "tag", "en")),
        ("overwrite_all", KNOWN, ("new", "new", "100", "new", "tag", "en")),
    ],
)
def test_a_policy_decides_what_is_overwritten(policy: MergePolicy, known: Sidecar, expected: tuple[str, ...]) -> None:
    merged = merge(known, NEW, policy)
    assert (merged.caption, merged.lyrics, merged.bpm, merged.genre, merged.custom_tag, merged.language) == expected


def test_an_empty_value_overwrites_nothing() -> None:
    assert merge(KNOWN, Sidecar(), "overwrite_all") == KNOWN
