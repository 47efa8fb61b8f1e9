"""What a language model is asked about a song."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.describing.normalise import FIELDS
from sidestep_core.describing.prompt import caption_prompt, prompt_path
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import Track

SONG = Track(path=Path("song.wav"), title="Träume {artist}", artist="Björk", duration=61.4)


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_asked_for_alone(field):
    lines = caption_prompt(SONG, frozenset({field}), hears=True).splitlines()
    assert f"Fill in these fields and no others: {field}." in " ".join(lines)
    assert [name for name in FIELDS if any(line.startswith(f"{name}:") for line in lines)] == [field]


def test_the_song_is_named_as_it_is():
    prompt = caption_prompt(SONG, frozenset({"caption"}), hears=True)
    assert "Title: Träume {artist}\nArtist: Björk\nLength: 61 seconds\n" in prompt


def test_nothing_is_said_that_is_not_known():
    prompt = caption_prompt(Track(path=Path("a.wav"), title="a"), frozenset({"bpm"}), hears=True)
    assert not any(
        word in prompt for word in ("Artist:", "Length:", "Known already", "lyrics", "Search", "@", "\n\n\n")
    )


def test_what_is_known_is_told_but_not_what_is_asked():
    known = {"bpm": "96", "key": "C minor", "caption": "old", "custom_tag": "tag", "lyrics": "la " * 400}
    track = Track(path=Path("a.wav"), title="a", known=known)
    prompt = caption_prompt(track, frozenset({"caption", "key"}), hears=True)
    assert "Known already, and right: bpm 96\n" in prompt
    assert "The lyrics begin so:\nla la" in prompt
    assert 480 < prompt.count("la ") * 3 <= 510
    assert "old" not in prompt
    assert "tag" not in prompt


def test_a_model_that_hears_is_told_so_and_one_that_does_not_too():
    wanted = frozenset({"caption"})
    assert "The recording comes with this message" in caption_prompt(SONG, wanted, hears=True)
    assert "You cannot hear the recording" in caption_prompt(SONG, wanted, hears=False)


def test_searching_is_asked_for_where_it_can_be():
    assert "Search the web" in caption_prompt(SONG, frozenset({"bpm"}), hears=True, grounding=True)


def test_a_file_of_the_users_takes_the_place_of_the_prompt():
    prompt_path().write_text("\ufeffSay it in verse: {fields}.\n@bpm Count. {unknown}\n@key Sing.", encoding="utf-8")
    assert caption_prompt(SONG, frozenset({"bpm"}), hears=True) == "Say it in verse: bpm.\nCount. {unknown}\n"


def test_a_file_that_does_not_ask_for_fields_is_completed():
    prompt_path().write_text('Be brief. {"like": "this"}')
    prompt = caption_prompt(SONG, frozenset({"caption", "bpm"}), hears=True)
    assert prompt.startswith('Be brief. {"like": "this"}\n')
    assert "Title: Träume {artist}" in prompt
    assert prompt.endswith("null where you are not sure: caption, bpm.\n")


def test_a_file_that_is_no_text_is_an_error():
    prompt_path().write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        caption_prompt(SONG, frozenset({"bpm"}), hears=True)


def test_parameters_are_those_of_the_published_program():
    made = GenerationConfig()
    assert (made.temperature, made.top_p, made.max_tokens) == (0.45, 0.9, 4096)
    assert (made.presence_penalty, made.frequency_penalty, made.repetition_penalty) == (0, 0, 1.05)


def test_describing_is_asked_about_without_heavy_libraries():
    modules = "configs normalise answers prompt provenance"
    code = (
        f"import sys\nfor name in {modules!r}.split(): __import__('sidestep_core.describing.' + name)\n"
        "print({'torch', 'numpy', 'stamina', 'mutagen', 'keyring', 'cattrs'} & sys.modules.keys())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "set()\n"
