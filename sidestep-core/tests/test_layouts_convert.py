"""Converting fills sidecars from what other programs wrote; what a person wrote is never lost."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidestep_core.dataset import scan_folder
from sidestep_core.dataset_file import write_dataset
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.layouts.convert import ConversionPlan, plan_conversion, write_conversion
from sidestep_core.sidecars import Sidecar, read_sidecar, write_sidecar

PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.text(alphabet="abc \n#\\:é[]<>/", max_size=12)


def fill(root: Path, **files: Any) -> Path:
    """Write files given as path=content, with `__` for a slash and `_` for the dot; what is no text becomes JSON."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def convert(source: Path, **options: Any) -> ConversionPlan:
    plan = plan_conversion(source, **options)
    write_conversion(plan)
    return plan


def said(audio: Path) -> dict[str, str]:
    """Return the fields of a song's sidecar that say something."""
    return {name: value for name, value in attrs.asdict(read_sidecar(audio) or Sidecar()).items() if value}


def reasons(plan: ConversionPlan) -> list[str]:
    return [problem.reason for problem in plan.problems]


def contents(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in root.rglob("*") if path.is_file()}


def test_what_a_sidecar_says_stays_and_what_it_leaves_empty_is_filled(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_txt="caption: mine\n", a_json={"caption": "theirs", "bpm": 90, "mood": "dark"})
    plan = convert(tmp_path)
    assert said(tmp_path / "a.wav") == {"caption": "mine", "bpm": "90", "other": "mood: dark"}
    assert [note.reason for note in plan.notes] == ["caption in a.json differs from the one in a.txt, which is used"]


def test_what_was_found_wins_where_that_is_wanted_and_the_rest_stays(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_txt="# by hand\nmood: dark\ncaption: mine\nkey: C\n", a_json={"caption": "theirs"})
    convert(tmp_path, overwrite=True)
    assert said(tmp_path / "a.wav") == {"caption": "theirs", "key": "C", "other": "mood: dark", "comments": "by hand"}
    assert "caption: mine" in (tmp_path / "a.txt.bak").read_text()


def test_nothing_but_sidecars_and_their_backups_is_written(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_txt="<CAPTION>c</CAPTION>", b__a_wav="", b__a_json={"bpm": 90}, b__a_lyrics="la")
    before = contents(tmp_path)
    convert(tmp_path)
    after = contents(tmp_path)
    assert set(after) - set(before) == {"a.txt.bak", "b/a.txt"}
    assert {name for name in before if after[name] != before[name]} == {"a.txt"}
    assert after["a.txt.bak"] == before["a.txt"]


def test_a_plan_alone_writes_nothing_and_shows_the_lines(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_txt="caption: mine\n", a_json={"bpm": 90})
    before = contents(tmp_path)
    (change,) = plan_conversion(tmp_path).changes
    assert contents(tmp_path) == before
    assert change.lines == ("+genre: ", "+bpm: 90", "+key: ", "+signature: ", "+is_instrumental: ")
    assert [source.name for source in change.sources] == ["a.txt", "a.json"]


def test_converting_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_json={"caption": "c"}, b_wav="", b_txt="<LYRICS>la</LYRICS>", c_wav="", c_lyrics="x")
    assert len(convert(tmp_path).changes) == 3
    after = contents(tmp_path)
    again = convert(tmp_path)
    assert (again.changes, again.complete, contents(tmp_path)) == ((), 3, after)


def test_songs_of_one_name_in_different_folders_share_nothing(tmp_path: Path) -> None:
    fill(tmp_path, a__x_wav="", a__x_json={"caption": "one"}, b__x_wav="", b__x_txt="caption: two\n", c__x_wav="")
    convert(tmp_path)
    assert [said(tmp_path / name / "x.wav") for name in "abc"] == [{"caption": "one"}, {"caption": "two"}, {}]


def test_songs_that_differ_in_their_endings_share_one_sidecar_that_is_written_once(tmp_path: Path) -> None:
    fill(tmp_path, x_wav="", x_mp3="", x_json={"caption": "c"})
    assert [change.path.name for change in convert(tmp_path).changes] == ["x.txt"]


def test_a_file_that_cannot_be_read_costs_its_song_alone(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_json="{", b_wav="", b_json={"caption": "c"}, c_wav="", c_txt="maybe a caption")
    plan = convert(tmp_path)
    assert [problem.path.name for problem in plan.problems] == ["a.wav", "c.wav"]
    assert said(tmp_path / "b.wav") == {"caption": "c"}
    assert (tmp_path / "c.txt").read_text() == "maybe a caption"


@PATIENT
@given(
    own=st.fixed_dictionaries({}, optional={"caption": WORDS, "lyrics": WORDS, "bpm": WORDS, "other": WORDS}),
    theirs=st.fixed_dictionaries({}, optional={"caption": WORDS, "lyrics": WORDS, "mood": WORDS, "tempo": WORDS}),
    overwrite=st.booleans(),
)
def test_no_word_of_a_person_is_lost(
    tmp_path_factory: pytest.TempPathFactory, own: dict[str, str], theirs: dict[str, str], overwrite: bool
) -> None:
    folder = fill(tmp_path_factory.mktemp("songs"), a_wav="", a_json=theirs)
    write_sidecar(folder / "a.wav", Sidecar(**own))
    before = contents(folder)
    convert(folder, overwrite=overwrite)
    after = contents(folder)
    assert after["a.json"] == before["a.json"]
    assert before["a.txt"] in (after["a.txt"], after.get("a.txt.bak"))
    kept = attrs.asdict(Sidecar(**own) if not overwrite else Sidecar(other=own.get("other", "")))
    written = attrs.asdict(read_sidecar(folder / "a.wav") or Sidecar())
    assert {name for name, value in kept.items() if value and value not in written[name]} == set()


def test_a_dataset_file_becomes_the_sidecars_that_it_was_made_of(tmp_path: Path) -> None:
    fill(tmp_path / "one", a_wav="", sub__b_wav="", c__b_wav="")
    write_sidecar(tmp_path / "one" / "a.wav", Sidecar(caption="warm", bpm="90", lyrics="[Verse]\nla", custom_tag="x"))
    write_sidecar(tmp_path / "one" / "sub" / "b.wav", Sidecar(genre="rock", prompt_override="genre", repeat="3"))
    dataset = tmp_path / "one" / "dataset.json"
    write_dataset(scan_folder(tmp_path / "one"), dataset, created_at="now", seconds=lambda path: 3.0)
    for sidecar in (tmp_path / "one").rglob("*.txt"):
        sidecar.unlink()
    convert(dataset)
    found = {song.name: song for song in scan_folder(tmp_path / "one").songs}
    assert (found["a.wav"].caption, found["a.wav"].lyrics, found["a.wav"].custom_tag) == ("warm", "[Verse]\nla", "x")
    assert (found["sub/b.wav"].genre, found["sub/b.wav"].repeat) == ("rock", 3)
    assert "caption" not in said(tmp_path / "one" / "sub" / "b.wav")  # it was made from the name


def test_settings_of_a_set_go_into_sidecars_where_they_can(tmp_path: Path) -> None:
    metadata = {"custom_tag": "style", "tag_position": "append", "genre_ratio": 30}
    samples = [{"filename": "a.wav", "caption": "c"}, {"filename": "b.wav", "custom_tag": "own"}]
    fill(tmp_path, a_wav="", b_wav="", dataset_json={"metadata": metadata, "samples": samples})
    plan = convert(tmp_path / "dataset.json")
    assert [said(tmp_path / name)["custom_tag"] for name in ("a.wav", "b.wav")] == ["style", "own"]
    assert plan.settings == "--tag-position append --genre-ratio 30"


def test_what_stands_beside_a_listed_song_comes_before_the_list(tmp_path: Path) -> None:
    samples = [{"filename": "a.wav", "caption": "listed", "bpm": 90}]
    fill(tmp_path, a_wav="", **{"list_json": samples})
    (tmp_path / "a.caption.txt").write_text("by hand")
    convert(tmp_path / "list.json")
    assert said(tmp_path / "a.wav") == {"caption": "by hand", "bpm": "90"}


def test_a_plain_text_beside_a_listed_song_is_asked_for_and_stays(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="", a_txt="lyrics or caption", list_json=[{"filename": "a.wav", "caption": "c"}])
    assert "--plain-text" in reasons(convert(tmp_path / "list.json"))[0]
    assert (tmp_path / "a.txt").read_text() == "lyrics or caption"
    convert(tmp_path / "list.json", plain="lyrics")
    assert said(tmp_path / "a.wav") == {"caption": "c", "lyrics": "lyrics or caption"}


def table(path: Path, *rows: tuple[str, ...], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8-sig", newline="")
    return path


@pytest.mark.parametrize("column", ["file", "filename", "file_name", "audio_path", "audio", "path", "File"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_by_its_headings(tmp_path: Path, column: str, delimiter: str) -> None:
    fill(tmp_path, a_wav="", sub__b_wav="")
    lyrics = '[Verse]\n愛, "quoted"; and more\tla'
    rows = [(column, "Caption", "bpm", "lyrics", "mood"), ("a.wav", "c", "90", lyrics, "dark"), ("sub/b.wav", "d")]
    assert reasons(convert(table(tmp_path / "t.csv", *rows, delimiter=delimiter))) == []
    assert said(tmp_path / "a.wav") == {"caption": "c", "bpm": "90", "lyrics": lyrics, "other": "mood: dark"}
    assert said(tmp_path / "sub" / "b.wav") == {"caption": "d"}


def test_a_table_may_hold_very_long_lyrics(tmp_path: Path) -> None:
    fill(tmp_path, a_wav="")
    lyrics = "la la la\n" * 100_000
    convert(table(tmp_path / "t.csv", ("file", "lyrics"), ("a.wav", lyrics)))
    assert said(tmp_path / "a.wav")["lyrics"] == lyrics.strip()


def test_songs_of_a_list_are_looked_for_in_a_folder_of_their_own(tmp_path: Path) -> None:
    fill(tmp_path, music__a_wav="", lists__t_json=[{"filename": "a.wav", "caption": "c"}])
    assert "no file 'a.wav'" in reasons(plan_conversion(tmp_path / "lists" / "t.json"))[0]
    convert(tmp_path / "lists" / "t.json", audio_dir=tmp_path / "music")
    assert said(tmp_path / "music" / "a.wav") == {"caption": "c"}


def test_a_list_of_a_folder_that_moved_finds_its_songs_below(tmp_path: Path) -> None:
    paths = ["/old/home/rock/a.wav", "C:\\old\\home\\jazz\\a.wav", "/old/home/b.wav"]
    fill(tmp_path, rock__a_wav="", jazz__a_wav="", deep__down__b_wav="")
    fill(tmp_path, t_json=[{"audio_path": path, "caption": path} for path in paths])
    assert reasons(convert(tmp_path / "t.json")) == []
    found = [said(tmp_path / name)["caption"] for name in ("rock/a.wav", "jazz/a.wav", "deep/down/b.wav")]
    assert found == paths


def test_an_entry_that_may_mean_several_songs_means_none(tmp_path: Path) -> None:
    fill(tmp_path, one__a_wav="", two__a_wav="", t_json=[{"audio_path": "/old/a.wav", "caption": "c"}])
    assert reasons(convert(tmp_path / "t.json")) == [
        f"entry 1: no file '/old/a.wav' and no 'a.wav' in '{tmp_path}'; there are 2 of that name below"
    ]


def test_entries_of_one_name_need_the_folder_to_agree(tmp_path: Path) -> None:
    fill(tmp_path, new__a_wav="", t_json=[{"audio_path": f"/old/{n}/a.wav", "caption": n} for n in ("x", "y")])
    plan = convert(tmp_path / "t.json")
    assert len(plan.problems) == 2
    assert said(tmp_path / "new" / "a.wav") == {}


def test_entries_that_cannot_be_used_are_told_and_cost_themselves_alone(tmp_path: Path) -> None:
    entries: list[Any] = ["text", {}, {"filename": "notes.pdf"}, {"filename": "a.wav"}, {"filename": "./a.wav"}]
    fill(tmp_path, a_wav="", notes_pdf="", t_json=[*entries, {"filename": "a.wav", "caption": "again"}])
    found = [reason.replace(str(tmp_path), "DIR") for reason in reasons(convert(tmp_path / "t.json"))]
    assert found == [
        "entry 1: not an object",
        "entry 2: names no audio_path or filename",
        "entry 3: 'DIR/notes.pdf' is no audio; looked for .aac .flac .m4a .mp3 .ogg .opus .wav",
        "entry 5: 'DIR/a.wav' is in the list before; the first entry is used",
        "entry 6: 'DIR/a.wav' is in the list before; the first entry is used",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", "{", "cannot read dataset file"),
        ("t.json", "[" * 100_000, "cannot read dataset file"),
        ("t.json", '{"songs": []}', "is no dataset file"),
        ("t.csv", "", "no column of files; one must be called file, filename"),
        ("t.csv", "name,caption\na.wav,c\n", "no column of files"),
        ("t.csv", "file,caption\na.wav,one, two\n", "line 2: 3 cells under 2 headings; texts with commas need quotes"),
        ("t.csv", 'file,caption\na.wav,"open\n', "line 2: unexpected end of data"),
        ("t.csv", 'file,caption\na.wav,"a"b\n', "line 2: "),
        ("t.xml", "<a/>", "is no folder, no dataset file"),
    ],
)
def test_a_list_of_another_shape_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    fill(tmp_path, a_wav="")
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=message) as raised:
        plan_conversion(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"file,caption\na.wav,caf\xe9\n")
    with pytest.raises(DatasetError, match="not UTF-8 text"):
        plan_conversion(tmp_path / "t.csv")


def test_a_folder_for_the_songs_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--audio-dir is for dataset files"):
        plan_conversion(tmp_path, audio_dir=tmp_path)


def test_a_folder_of_songs_that_is_missing_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, t_json=[])
    with pytest.raises(DatasetError, match="no folder"):
        plan_conversion(tmp_path / "t.json", audio_dir=tmp_path / "gone")
