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


class Quitting:
    sidestep_api = 1

    @hookimpl
    def sidestep_presets(self):
        raise SystemExit("bye")


class Careless:
    sidestep_api = 1

    def __init__(self, *sources):
        self.sources = sources

    @hookimpl
    def sidestep_presets(self):
        yield from self.sources


@pytest.mark.parametrize("content", [b"[train", b"epochs = 3", b"\xff\xfe", None])
def test_a_plugin_that_ships_a_bad_preset_loses_its_own_and_no_others(user_presets, tmp_path, content):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[train]\nepochs = 3\n", encoding="utf-8")
    if content is not None:
        bad.write_bytes(content)
    plugins = Plugins(entry_points=False, extra={"careless": Careless(good, bad), "careful": Careless(good)})
    assert [(p.name, p.origin) for p in list_presets(plugins)] == [("good", "careful")]
    (problem,) = plugins.records[0].problems
    assert problem.startswith("sidestep_presets: preset '")
    assert str(bad) in problem


def test_a_plugin_that_exits_when_it_is_asked_for_presets_is_passed_over(user_presets, tmp_path):
    good = tmp_path / "good.toml"
    good.write_text("[train]\nepochs = 3\n", encoding="utf-8")
    plugins = Plugins(entry_points=False, extra={"quitting": Quitting(), "careful": Careless(good)})
    assert find_preset("good", plugins).origin == "careful"
    assert plugins.records[0].problems == ["sidestep_presets: SystemExit: bye"]


def test_an_unknown_preset_may_be_among_those_that_could_not_be_read(user_presets, tmp_path):
    plugins = Plugins(entry_points=False, extra={"careless": Careless(tmp_path / "gone.toml")})
    with pytest.raises(UnknownName, match=r"there is none.*\nnot loaded: sidestep_presets: preset .*gone\.toml'"):
        find_preset("gone", plugins)
