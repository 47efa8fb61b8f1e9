"""Plugins are found, checked and kept apart. Plugins under test are small classes, never installed."""

from __future__ import annotations

import pytest
from sidestep_core import hookimpl
from sidestep_core.builtins import plugin as builtins_plugin
from sidestep_core.errors import AmbiguousName, UnknownName
from sidestep_core.plugins import PluginRecord, Plugins
from sidestep_core.registry import Registry
from sidestep_core.specs import AdapterType, ExporterType, TimestepSamplerType


def adapter(name: str = "vera") -> AdapterType:
    return AdapterType(name=name, summary="A made-up adapter", target="nowhere:Nothing")


class Vera:
    sidestep_api = 1

    @hookimpl
    def sidestep_adapters(self):
        return [adapter()]


class HalfBroken(Vera):
    @hookimpl
    def sidestep_exporters(self):
        raise RuntimeError("no luck\nand more")


def given(**plugins):
    return Plugins(entry_points=False, extra=plugins)


def only_record(**plugins) -> PluginRecord:
    (record,) = given(**plugins).records
    return record


def test_a_given_plugin_is_registered():
    assert list(given(vera=Vera()).registries["adapter"]) == ["vera"]


def test_a_name_offered_twice_must_be_qualified():
    plugins = given(one=Vera(), two=Vera())
    with pytest.raises(AmbiguousName, match="one:vera or two:vera"):
        plugins.registries["adapter"]["vera"]
    assert plugins.registries["adapter"]["two:vera"].name == "vera"


def test_both_plugins_of_a_collision_show_it():
    problems = [r.problems for r in given(one=Vera(), two=Vera()).records]
    assert problems == [["adapter 'vera' is also offered by two"], ["adapter 'vera' is also offered by one"]]


def test_a_pinned_name_cannot_be_taken_over():
    registry: Registry[AdapterType] = Registry("adapter")
    ours, theirs = adapter("lora"), adapter("lora")
    registry.add("third", theirs)
    registry.add("adapters", ours, pin=True)
    assert registry["lora"] is ours
    assert registry["third:lora"] is theirs


def test_a_name_offered_twice_by_one_plugin_breaks_it():
    class Twice:
        sidestep_api = 1

        @hookimpl
        def sidestep_adapters(self):
            return [adapter(), adapter()]

    assert only_record(twice=Twice()).problems == [
        "sidestep_adapters: ValueError: adapter 'vera' is offered twice by one plugin"
    ]


def test_an_unknown_name_says_what_there_is_and_what_is_near():
    with pytest.raises(UnknownName, match="no adapter 'verra'; there is vera; did you mean 'vera'"):
        given(vera=Vera()).find("adapter", "verra")


def test_an_unknown_name_mentions_plugins_that_did_not_load():
    with pytest.raises(UnknownName, match="not loaded: half"):
        given(half=HalfBroken()).find("exporter", "gone")


@pytest.mark.parametrize("api", [0, 2, "1", None])
def test_a_plugin_for_another_api_is_left_out(api):
    class Other(Vera):
        sidestep_api = api

    plugins = given(other=Other())
    assert plugins.records[0].status == "incompatible"
    assert plugins.records[0].problems == [f"written for plugin API {api}, this is 1"]
    assert list(plugins.registries["adapter"]) == []


def test_a_hook_that_raises_loses_only_its_own_specs():
    plugins = given(half=HalfBroken())
    assert plugins.records[0].status == "broken"
    assert plugins.records[0].problems == ["sidestep_exporters: RuntimeError: no luck"]
    assert "no luck" in plugins.records[0].traceback
    assert list(plugins.registries["adapter"]) == ["vera"]


def test_a_hook_that_exits_the_process_does_not():
    class Quits:
        sidestep_api = 1

        @hookimpl
        def sidestep_adapters(self):
            raise SystemExit(3)

    assert only_record(quits=Quits()).problems == ["sidestep_adapters: SystemExit: 3"]


def test_a_spec_of_the_wrong_kind_is_refused():
    class Mixed:
        sidestep_api = 1

        @hookimpl
        def sidestep_exporters(self):
            return [adapter()]

    assert "expected ExporterType" in only_record(mixed=Mixed()).problems[0]


def test_a_bad_spec_is_blamed_on_the_plugin_that_makes_it():
    class Sloppy:
        sidestep_api = 1

        @hookimpl
        def sidestep_timestep_samplers(self):
            return [TimestepSamplerType(name="Bad Name", summary="x", target="a:b")]

    record = only_record(sloppy=Sloppy())
    assert record.status == "broken"
    assert "lower-case words" in record.problems[0]


def test_a_misspelt_hook_is_reported_and_harmless():
    class Typo(Vera):
        @hookimpl
        def sidestep_adaptors(self):
            return []

    record = only_record(typo=Typo())
    assert (record.status, record.problems) == ("ok", ["unknown hook sidestep_adaptors: not called"])


def test_a_hook_without_its_mark_is_reported():
    class Forgot:
        sidestep_api = 1

        def sidestep_adapters(self):
            return [adapter()]

    assert only_record(forgot=Forgot()).problems == ["sidestep_adapters is not marked with @hookimpl: not called"]


def test_a_hook_with_wrong_arguments_breaks_the_plugin():
    class Greedy:
        sidestep_api = 1

        @hookimpl
        def sidestep_adapters(self, wanted):
            return []

    record = only_record(greedy=Greedy())
    assert record.status == "broken"
    assert "wanted" in record.problems[0] + record.traceback


@pytest.mark.parametrize("disabled", [["vera"], ["vera", "*"]])
def test_a_blocked_plugin_offers_nothing(disabled):
    plugins = Plugins(entry_points=False, extra={"vera": Vera()}, disabled=disabled)
    assert plugins.records[0].status == "blocked"
    assert len(plugins.registries["adapter"]) == 0


def test_a_plugin_can_be_blocked_from_the_environment(monkeypatch):
    monkeypatch.setenv("SIDESTEP_DISABLE_PLUGINS", " vera , other")
    assert only_record(vera=Vera()).status == "blocked"


def test_two_plugins_of_one_name_keep_the_first():
    plugins = Plugins(extra={"core": Vera()})
    assert [(r.name, r.status) for r in plugins.records if r.name == "core"] == [("core", "ok"), ("core", "broken")]
    assert "vera" not in plugins.registries["adapter"]


def test_all_hooks_that_return_specs_are_collected():
    class All:
        sidestep_api = 1

        @hookimpl
        def sidestep_exporters(self):
            return (ExporterType(name="out", summary="Out", target="a:b") for _ in range(1))

        @hookimpl
        def sidestep_timestep_samplers(self):
            return [TimestepSamplerType(name="band", summary="Band", target="a:b")]

    assert [s.name for s in only_record(all=All()).specs] == ["band", "out"]


def test_the_first_plugin_that_knows_a_secret_gives_it():
    class Vault:
        sidestep_api = 1

        @hookimpl
        def sidestep_secret(self, service):
            return "hush" if service == "gemini" else None

    plugins = given(vault=Vault())
    assert (plugins.secret("gemini"), plugins.secret("openai")) == ("hush", None)


def test_a_secret_is_found_behind_a_plugin_that_raises(monkeypatch):
    class Bad:
        sidestep_api = 1

        @hookimpl
        def sidestep_secret(self, service):
            raise SystemExit("locked")

    monkeypatch.setenv("GEMINI_API_KEY", "hush")
    plugins = given(bad=Bad(), core=builtins_plugin)
    assert plugins.secret("gemini") == "hush"
    assert [r.problems for r in plugins.records if r.name == "bad"] == [["sidestep_secret: SystemExit: locked"]]


def test_asking_a_hook_goes_on_after_a_plugin_that_raises():
    class Bad:
        sidestep_api = 1

        @hookimpl
        def sidestep_presets(self):
            raise OSError("gone")

    class Good:
        sidestep_api = 1

        @hookimpl
        def sidestep_presets(self):
            return ["a.toml"]

    plugins = given(bad=Bad(), good=Good())
    assert [(r.name, answer) for r, answer in plugins.ask("sidestep_presets")] == [("good", ["a.toml"])]
    assert plugins.records[0].problems == ["sidestep_presets: OSError: gone"]
