"""Click options made from settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner
from sidestep_cli.setting_options import SettingOption, make_option, repeat_flags
from sidestep_core.options import config, option, options_of


@config
class Example:
    """One setting of each shape."""

    rate: float = option(
        default=3e-4, flag="--lr", aliases=("--learning-rate",), short="-l", above=0, at_most=1, help="Rate."
    )
    count: int = option(default=4, at_least=1, help="Count.")
    share: float = option(default=0.5, at_least=0, below=1, help="Share.")
    mode: Literal["self", "both"] = option(default="both", help="Mode.")
    mlp: bool = option(default=True, help="MLP.")
    recompute: bool | None = option(default=None, help="Recompute.")
    names: tuple[str, ...] = option(default=("q", "v"), help="Names.")
    numbers: tuple[int, ...] = option(default=(), help="Numbers.")
    folder: Path | None = option(default=None, help="Folder.")
    token: str = option(default="hidden", secret=True, help="Token.")
    must: int = option(help="Must.")


def made(taken: set[str] | None = None, **kwargs: Any) -> dict[str, SettingOption]:
    found = taken if taken is not None else set()
    return {
        o.name: make_option(
            o, table="adapter", title="Adapter", prefixes=("adapter", "adapter-lora"), taken=found, **kwargs
        )
        for o in options_of(Example)
    }


def parsed(*args: str) -> dict[str, Any]:
    options = made()
    many = {flag for o in options.values() if o.multiple for flag in o.opts}

    @click.command(params=list(options.values()))
    def command(**values: Any) -> None:
        found.update(values)

    found: dict[str, Any] = {}
    result = CliRunner().invoke(command, list(repeat_flags(args, many)), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return {name.removeprefix("adapter__"): value for name, value in found.items()}


def help_of(name: str) -> tuple[str, str]:
    return made()[name].get_help_record(click.Context(click.Command("c")))


@pytest.mark.parametrize("flag", ["--lr", "--learning-rate", "-l"])
def test_flag_aliases_and_short_flag_mean_the_same(flag: str) -> None:
    assert parsed(flag, "1e-4")["rate"] == 1e-4


@pytest.mark.parametrize(("flag", "value"), [("--mlp", True), ("--no-mlp", False)])
def test_a_yes_or_no_setting_has_a_pair_of_flags(flag: str, value: bool) -> None:
    assert parsed(flag)["mlp"] is value


@pytest.mark.parametrize(("flag", "value"), [("--recompute", True), ("--no-recompute", False)])
def test_a_yes_or_no_setting_that_may_be_absent_has_a_pair_too(flag: str, value: bool) -> None:
    assert parsed(flag)["recompute"] is value


@pytest.mark.parametrize(
    "args",
    [
        ("--names", "a", "b", "c"),
        ("--names", "a", "--names", "b", "--names", "c"),
        ("--names=a", "b", "c"),
        ("--names", "a", "b", "--count", "2", "--names", "c"),
    ],
)
def test_several_values_come_after_one_flag_or_after_many(args: tuple[str, ...]) -> None:
    assert parsed(*args)["names"] == ("a", "b", "c")


def test_several_values_end_at_the_next_flag() -> None:
    values = parsed("--names", "q_proj", "v_proj", "--lr", "1e-4", "--no-mlp")
    assert (values["names"], values["rate"], values["mlp"]) == (("q_proj", "v_proj"), 1e-4, False)


def test_negative_numbers_are_values_not_flags() -> None:
    assert parsed("--numbers", "-1", "-2")["numbers"] == (-1, -2)


def test_words_after_two_dashes_are_left_alone() -> None:
    assert list(repeat_flags(["--names", "a", "--", "b"], {"--names"})) == ["--names", "a", "--", "b"]


def test_a_value_outside_the_choices_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="'cross' is not one of 'self', 'both'"):
        parsed("--mode", "cross")


def test_a_word_for_a_number_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="'many' is not a valid integer"):
        parsed("--count", "many")


def test_a_path_is_a_path() -> None:
    assert parsed("--folder", "a/b")["folder"] == Path("a/b")


@pytest.mark.parametrize(
    ("name", "flags", "text"),
    [
        ("rate", "-l, --lr X", "Rate.  [default 0.0003; above 0, at most 1; also --learning-rate]"),
        ("count", "--count N", "Count.  [default 4; at least 1]"),
        ("share", "--share X", "Share.  [default 0.5; at least 0, below 1]"),
        ("mode", "--mode self|both", "Mode.  [default both]"),
        ("mlp", "--mlp / --no-mlp", "MLP.  [default on]"),
        ("recompute", "--recompute / --no-recompute", "Recompute."),
        ("names", "--names TEXT ...", "Names.  [default q v]"),
        ("numbers", "--numbers N ...", "Numbers."),
        ("folder", "--folder PATH", "Folder."),
        ("token", "--token TEXT", "Token."),
        ("must", "--must N", "Must.  [required]"),
    ],
)
def test_help_shows_flags_default_and_bounds(name: str, flags: str, text: str) -> None:
    assert help_of(name) == (flags, text)


def test_a_taken_flag_gets_the_slot_in_front() -> None:
    assert made({"--count"})["count"].flag == "--adapter-count"


def test_a_flag_taken_twice_gets_the_component_in_front_as_well() -> None:
    assert made({"--count", "--adapter-count"})["count"].flag == "--adapter-lora-count"


def test_a_pair_whose_no_is_taken_counts_as_taken() -> None:
    assert made({"--no-mlp"})["mlp"].opts == ["--adapter-mlp"]


def test_a_taken_short_flag_is_left_out() -> None:
    assert made({"-l"})["rate"].opts == ["--lr", "--learning-rate"]


def test_a_taken_alias_is_left_out() -> None:
    assert made({"--learning-rate"})["rate"].opts == ["--lr", "-l"]


def test_two_settings_of_one_command_never_share_a_flag() -> None:
    taken: set[str] = set()
    flags = [flag for _ in range(2) for o in made(taken).values() for flag in (*o.opts, *o.secondary_opts)]
    assert len(flags) == len(set(flags))


def test_running_out_of_names_is_the_programmers_error() -> None:
    with pytest.raises(ValueError, match="every flag is taken: --count, --adapter-count, --adapter-lora-count"):
        made({"--count", "--adapter-count", "--adapter-lora-count"})
