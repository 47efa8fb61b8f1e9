"""Presets: shipped by plugins, saved by users, or any file."""

from __future__ import annotations

import pytest
from sidestep_core import hookimpl
from sidestep_core.configs import TrainConfig
from sidestep_core.errors import ConfigError, UnknownName
from sidestep_core.plugins import Plugins
from sidestep_core.presets import MAX_BYTES, find_preset, list_presets, request_tables
from sidestep_core.requests import TrainRequest


@pytest.fixture
def user_presets(monkeypatch, tmp_path):
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path))
    folder = tmp_path / "presets"
    folder.mkdir()
    return folder


@pytest.fixture
def plugins(tmp_path):
    shipped = tmp_path / "shipped" / "small.toml"
    shipped.parent.mkdir()
    shipped.write_text('description = "Small"\n[adapter]\ntype = "lora"\nrank = 8\n', encoding="utf-8")

    class Shipper:
        sidestep_api = 1

        @hookimpl
        def sidestep_presets(self):
            return [shipped]

    return Plugins(entry_points=False, extra={"shipper": Shipper()})


def test_a_shipped_preset_is_found_by_name(plugins, user_presets):
    preset = find_preset("small", plugins)
    assert (preset.origin, preset.description) == ("shipper", "Small")
    assert preset.tables == {"adapter": {"type": "lora", "rank": 8}}


def test_a_users_preset_hides_a_shipped_one(plugins, user_presets):
    (user_presets / "small.toml").write_text("[train]\nepochs = 5\n", encoding="utf-8")
    assert [(p.name, p.origin) for p in list_presets(plugins)] == [("small", "user")]


def test_any_toml_file_is_a_preset(plugins, user_presets, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nepochs = 7\n", encoding="utf-8")
    assert find_preset(str(path), plugins).tables == {"train": {"epochs": 7}}


def test_an_unknown_preset_lists_what_there_is(plugins, user_presets):
    with pytest.raises(UnknownName, match="no preset 'big'; there is small"):
        find_preset("big", plugins)


def test_a_missing_file_is_named(plugins, user_presets):
    with pytest.raises(UnknownName, match=r"no preset file 'gone\.toml'"):
        find_preset("gone.toml", plugins)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[train", "cannot be read"), ("epochs = 3", "must stand in a table"), ("description = 3", "must be text")],
)
def test_a_damaged_preset_is_refused_with_the_reason(plugins, user_presets, text, reason):
    (user_presets / "bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        find_preset("bad", plugins)


def test_a_file_too_large_for_a_preset_is_refused(plugins, user_presets):
    (user_presets / "big.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="at most"):
        find_preset("big", plugins)


def test_a_request_becomes_tables_by_slot():
    tables = request_tables(TrainRequest(train=TrainConfig(epochs=3), observers=()))
    assert tables["train"]["epochs"] == 3
    assert tables["adapter"] == {"type": "lora"}
    assert tables["lr-control"] == {"cosine": {}}
    assert "observe" not in tables
