"""One declaration per setting, and what can be derived from it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs
import pytest
from sidestep_core.configs import (
    DataConfig,
    MemoryConfig,
    ModelConfig,
    PreprocessConfig,
    RunConfig,
    TargetsConfig,
    TrainConfig,
)
from sidestep_core.options import config, option, options_of

CONFIGS = [ModelConfig, PreprocessConfig, DataConfig, TrainConfig, TargetsConfig, MemoryConfig, RunConfig]


@config
class Example:
    """Every kind of setting."""

    count: int = option(default=3, short="-k", at_least=1, at_most=9, help="How many.")
    share: float = option(default=0.5, above=0, below=1, help="How much.")
    mode: Literal["a", "b"] = option(default="a", flag="--how", aliases=("--way",), help="Which way.")
    names: tuple[str, ...] = option(default=(), help="Names.")
    place: Path | None = option(default=None, help="Where.")
    token: str | None = option(default=None, secret=True, help="Key.")
    needed: bool = option(help="Must be said.")


def test_an_option_knows_its_type_and_default():
    count = next(o for o in options_of(Example) if o.name == "count")
    assert (count.type, count.default, count.short, count.at_least, count.at_most) == (int, 3, "-k", 1, 9)


def test_the_flag_comes_from_the_field_name():
    assert [o.flags for o in options_of(Example)][:2] == [("--count",), ("--share",)]


def test_a_flag_of_its_own_comes_before_its_aliases():
    assert next(o for o in options_of(Example) if o.name == "mode").flags == ("--how", "--way")


def test_choices_lists_and_absence_are_read_from_the_annotation():
    read = {o.name: (o.type, o.choices, o.many, o.nullable, o.required) for o in options_of(Example)}
    assert read["mode"] == (str, ("a", "b"), False, False, False)
    assert read["names"] == (str, (), True, False, False)
    assert read["place"] == (Path, (), False, True, False)
    assert read["needed"] == (bool, (), False, False, True)


def test_a_config_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Example(needed=True).count = 4  # type: ignore[misc]


@pytest.mark.parametrize("values", [{"count": 0}, {"count": 10}, {"share": 0.0}, {"share": 1.0}])
def test_a_value_outside_its_bounds_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Example(needed=True, **values)


def test_a_secret_stays_out_of_repr():
    assert "hush" not in repr(Example(needed=True, token="hush"))


@pytest.mark.parametrize("hint", [dict[str, int], int | str, tuple[int, int], bytes, list[str]])
def test_a_type_that_no_interface_can_show_is_refused_at_once(hint):
    with pytest.raises(TypeError, match=r"Bad\.field"):
        config(type("Bad", (), {"__annotations__": {"field": hint}, "field": option(default=None, help="No.")}))


def test_a_field_without_option_is_refused():
    with pytest.raises(TypeError, match="not declared"):
        config(type("Bad", (), {"__annotations__": {"field": int}, "field": 3}))


@pytest.mark.parametrize("config_type", CONFIGS)
def test_every_shared_setting_has_help_that_ends_in_a_full_stop(config_type):
    assert [o.name for o in options_of(config_type) if not o.help.endswith(".") or "\n" in o.help] == []


def test_no_two_settings_of_a_run_share_a_flag():
    flags = [
        f
        for c in (ModelConfig, DataConfig, TrainConfig, TargetsConfig, MemoryConfig, RunConfig)
        for o in options_of(c)
        for f in o.flags
    ]
    assert len(flags) == len(set(flags))
