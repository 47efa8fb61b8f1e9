"""The settings file: read strictly, written atomically, foreign tables kept."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from sidestep_core.errors import ConfigError, UnknownName
from sidestep_core.options import config, option
from sidestep_core.settings import Settings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "settings.toml"


def test_a_missing_file_is_empty(path):
    assert Settings.load(path).get("checkpoint_dir") is None


def test_what_is_set_is_read_by_the_next_process(path):
    Settings.load(path).set("checkpoint_dir", "models")
    assert Settings.load(path).get("checkpoint_dir") == Path("models")


def test_several_values_are_separated_by_commas(path):
    Settings.load(path).set("disabled", "one, two")
    assert Settings.load(path).get("disabled") == ("one", "two")


def test_clear_brings_the_default_back(path):
    settings = Settings.load(path)
    settings.set("audio_dir", "songs")
    settings.clear("audio_dir")
    assert Settings.load(path).get("audio_dir") is None


def test_tables_of_other_packages_survive_a_change(path):
    path.parent.mkdir()
    path.write_text('[band]\nlow = 0.5\n[paths]\naudio_dir = "a"\n', encoding="utf-8")
    Settings.load(path).set("audio_dir", "b")
    assert tomllib.loads(path.read_text("utf-8")) == {"band": {"low": 0.5}, "paths": {"audio_dir": "b"}}


def test_a_setting_can_be_named_with_its_table(path):
    settings = Settings.load(path)
    settings.set("paths.audio_dir", "a")
    assert settings.get("audio_dir") == Path("a")


def test_an_unknown_setting_lists_the_known_ones(path):
    with pytest.raises(UnknownName, match="no setting 'colour'; there is checkpoint_dir"):
        Settings.load(path).set("colour", "red")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[paths", "is not valid TOML"),
        ("audio_dir = 'a'", "must stand in a table"),
        ("[paths]\naudio_dirr = 'a'", "did you mean 'audio_dir'"),
        ("[plugins]\ndisabled = 'all'", "plugins.disabled"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(path, text, reason):
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as caught:
        Settings.load(path)
    assert str(path) in str(caught.value)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path))
    assert Settings.load().path == tmp_path / "settings.toml"


def test_every_setting_is_listed_with_its_value(path):
    settings = Settings.load(path)
    settings.set("adapters_dir", "out")
    assert {s.key: s.value for s in settings.items()} == {
        "checkpoint_dir": None,
        "audio_dir": None,
        "tensors_dir": None,
        "adapters_dir": "out",
        "disabled": None,
        "provider": None,
        "lyrics_provider": None,
        "metadata_provider": None,
    }


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_no_value(path, text):
    settings = Settings.load(path)
    settings.set("audio_dir", "songs")
    with pytest.raises(ConfigError, match="no value for 'audio_dir'; 'sidestep settings clear audio_dir' removes"):
        settings.set("audio_dir", text)
    assert Settings.load(path).get("audio_dir") == Path("songs")


@config
class RadioConfig:
    """Settings of a provider."""

    volume: float = option(default=0.5, at_most=1, help="How loud.")
    stations: tuple[str, ...] = option(default=(), help="Which.")
    stereo: bool = option(default=True, help="On both sides.")
    key: str | None = option(default=None, secret=True, help="Secret.")


def test_a_providers_own_settings_are_kept_under_its_name(path):
    settings = Settings.load(path)
    for field, text in (("volume", "0.25"), ("stations", "one, two"), ("stereo", "off")):
        settings.set_of_provider("radio", RadioConfig, field, text)
    assert tomllib.loads(path.read_text())["providers"]["radio"] == {
        "volume": 0.25,
        "stations": ["one", "two"],
        "stereo": False,
    }
    again = Settings.load(path)
    assert again.of_provider("radio") == {"volume": 0.25, "stations": ["one", "two"], "stereo": False}
    assert again.of_provider("other") == {}
    assert next(iter(again.of_providers())) == ("radio.volume", 0.25)


def test_clearing_a_providers_last_setting_leaves_no_table(path):
    settings = Settings.load(path)
    settings.set_of_provider("radio", RadioConfig, "volume", "0.25")
    settings.set_of_provider("radio", RadioConfig, "volume", None)
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("volume", "2", "radio.volume: must be at most 1"),
        ("volume", "loud", "radio.volume: expected float, got 'loud'"),
        ("stereo", "perhaps", "radio.stereo: expected bool, got 'perhaps'"),
        ("key", "s3cret", "radio.key is a secret and stands in no file"),
        ("tone", "1", "provider 'radio' has no setting 'tone'; there is volume, stations, stereo"),
        ("volume", " ", "no value for 'radio.volume'"),
    ],
)
def test_a_providers_settings_are_checked_before_they_are_kept(path, field, text, said):
    with pytest.raises((ConfigError, UnknownName), match=said):
        Settings.load(path).set_of_provider("radio", RadioConfig, field, text)
    assert not path.exists()


def test_providers_settings_stand_in_tables(path):
    path.parent.mkdir()
    path.write_text("[providers]\nradio = 1\n")
    with pytest.raises(ConfigError, match=r"'radio' must stand in a table such as \[providers.radio\]"):
        Settings.load(path)
