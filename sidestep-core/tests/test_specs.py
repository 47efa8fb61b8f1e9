"""Specs refuse what would confuse a listing, and load their implementation only when asked."""

from __future__ import annotations

import sys

import pytest
from sidestep_core.errors import LoadError
from sidestep_core.options import config, option
from sidestep_core.specs import AdapterType, BuildContext, TimestepSamplerType


@config
class Band:
    """Settings of a sampler."""

    low: float = option(default=0.25, help="Low.")


def spec(**changes):
    values = dict(name="vera", summary="A made-up adapter", target="fractions:Fraction")
    return AdapterType(**{**values, **changes})


@pytest.mark.parametrize("name", ["Vera", "vera lora", "9lives", "vera_", "_vera", ""])
def test_a_name_that_is_awkward_to_type_is_refused(name):
    with pytest.raises(ValueError, match="lower-case words"):
        spec(name=name)


@pytest.mark.parametrize("name", ["lora", "local_16gb", "local_8-10gb", "cosine_restarts"])
def test_names_users_know_are_allowed(name):
    assert spec(name=name).name == name


@pytest.mark.parametrize("summary", ["", "Two\nlines", "Ends with a stop.", "x" * 91])
def test_a_summary_must_fit_one_line(summary):
    with pytest.raises(ValueError, match="summary"):
        spec(summary=summary)


@pytest.mark.parametrize("target", ["module", "module:", ":thing", "module:a.b", "mod ule:thing"])
def test_a_malformed_target_is_refused(target):
    with pytest.raises(ValueError, match=r"package\.module:attribute"):
        spec(target=target)


def test_a_config_must_be_a_config():
    with pytest.raises(TypeError, match="@config"):
        spec(config=dict)


def test_nothing_is_imported_before_load():
    sys.modules.pop("turtledemo", None)
    lazy = spec(target="turtledemo:__doc__")
    assert "turtledemo" not in sys.modules
    lazy.load()
    assert "turtledemo" in sys.modules


def test_a_missing_distribution_comes_with_the_command_to_get_it():
    absent = spec(needs=("no-such-distribution",), extra="sidestep-captioners[gemini]")
    with pytest.raises(LoadError, match=r"needs no-such-distribution: pip install 'sidestep-captioners\[gemini\]'"):
        absent.load()


@pytest.mark.parametrize("target", ["no_such_module:Thing", "fractions:NoSuchThing"])
def test_a_target_that_is_not_there_names_kind_and_component(target):
    with pytest.raises(LoadError, match="adapter 'vera' cannot be loaded from"):
        spec(target=target).load()


def test_build_hands_over_config_and_context():
    sampler = TimestepSamplerType(name="pair", summary="Pairs", target="builtins:slice", config=Band)
    made = sampler.build(Band(low=0.5), BuildContext(seed=7))
    assert (made.start.low, made.stop.seed) == (0.5, 7)


def test_build_without_config_uses_the_defaults():
    sampler = TimestepSamplerType(name="pair", summary="Pairs", target="builtins:slice", config=Band)
    assert sampler.build().start == Band()


def test_a_constructor_that_fails_is_blamed_by_name():
    with pytest.raises(LoadError, match="adapter 'vera' cannot be built: TypeError"):
        spec(target="builtins:int").build()
