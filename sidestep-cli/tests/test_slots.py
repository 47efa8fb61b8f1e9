"""Commands whose options follow the chosen components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from sidestep_cli.parts import Group, Resolved, Slot
from sidestep_cli.session import Session
from sidestep_cli.slots import SlotCommand
from sidestep_core.errors import ConfigError, SidestepError, UnknownName
from sidestep_core.hookspecs import hookimpl
from sidestep_core.options import config, option
from sidestep_core.requests import Choice
from sidestep_core.settings import Settings
from sidestep_core.specs import AdapterType, LRControllerType
from sidestep_core.toolkit import Toolkit


@config
class RunConfig:
    """The group that is always there."""

    epochs: int = option(default=10, short="-e", at_least=1, help="Epochs.")
    scale: float = option(default=1.0, help="Scale of the run.")


@config
class ExtraConfig:
    """The group that a flag unlocks."""

    epochs: int = option(default=1, short="-x", aliases=("--ep",), help="Epochs of the extra.")
    folder: str = option(default="", help="Folder.")


@config
class WideConfig:
    """Settings of one adapter."""

    rank: int = option(default=8, short="-r", at_least=1, help="Rank.")
    scale: float = option(default=2.0, help="Scale of the adapter.")
    depth: int = option(default=3, at_least=1, help="Depth.", advanced=True)


@config
class NarrowConfig:
    """Settings of another adapter."""

    factor: int = option(default=-1, help="Factor.")


@config
class CurveConfig:
    """Settings of both controllers."""

    floor: float = option(default=0.1, at_least=0, help="Floor.")


class Parts:
    """A plugin with two adapters and three controllers."""

    sidestep_api = 1

    @hookimpl
    def sidestep_adapters(self) -> list[AdapterType]:
        """Return two adapters."""
        configs = {"wide": WideConfig, "narrow": NarrowConfig}
        return [AdapterType(name=n, summary="A test", config=c, target="a.b:C") for n, c in configs.items()]

    @hookimpl
    def sidestep_lr_controllers(self) -> list[LRControllerType]:
        """Return two curves with settings and one without."""
        configs = {"down": CurveConfig, "damp": CurveConfig, "flat": None}
        return [LRControllerType(name=n, summary="A test", config=c, target="a.b:C") for n, c in configs.items()]


@click.command(
    cls=SlotCommand,
    groups=(
        Group(name="run", title="Run", config=RunConfig),
        Group(name="extra", title="Extra", config=ExtraConfig, unlocked_by=("--extra",)),
    ),
    slots=(
        Slot(name="adapter", title="Adapter", kind="adapter", default="wide", flags=("--type", "-a"), help="Type."),
        Slot(
            name="lr-control",
            title="Rate",
            kind="lr-controller",
            default="down",
            flags=("--schedule",),
            more=("--lr-control",),
            help="Course.",
            more_help="More.",
        ),
        Slot(name="watch", title="Watch", kind="lr-controller", default="flat", more=("--watch",), more_help="Watch."),
    ),
)
@click.option("--preset", help="Preset.")
@click.option("--extra", is_flag=True, help="Extra.")
@click.pass_context
def command(ctx: click.Context, settings: Resolved, preset: str | None, extra: bool) -> Resolved:
    """Do nothing but say what was asked."""
    return settings


@pytest.fixture
def session(tmp_path: Path) -> Session:
    settings = Settings(tmp_path / "settings.toml")
    return Session(Toolkit(plugins={"parts": Parts()}, entry_points=False, settings=settings))


@pytest.fixture
def preset(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "saved.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def call(session: Session) -> Any:
    def resolved(*args: str) -> Resolved:
        return command.main(list(args), obj=session, standalone_mode=False)  # type: ignore[no-any-return]

    return resolved


@pytest.fixture
def help_text(session: Session) -> Any:
    def shown(*args: str) -> str:
        return CliRunner().invoke(command, [*args, "--help"], obj=session, catch_exceptions=False).output

    return shown


def test_defaults_hold_when_nothing_is_said(call: Any) -> None:
    settings = call()
    assert settings.groups == {"run": RunConfig()}
    assert settings.one("adapter") == Choice(name="wide", config=WideConfig())
    assert settings.slots["lr-control"] == (Choice(name="down", config=CurveConfig()),)


def test_the_command_line_sets_values(call: Any) -> None:
    settings = call("-e", "3", "-r", "4")
    assert (settings.groups["run"].epochs, settings.one("adapter").config.rank) == (3, 4)


@pytest.mark.parametrize("args", [("--type", "narrow"), ("--type=narrow",), ("-a", "narrow"), ("-anarrow",)])
def test_options_follow_the_chosen_component(call: Any, args: tuple[str, ...]) -> None:
    assert call(*args, "--factor", "8").one("adapter") == Choice(name="narrow", config=NarrowConfig(factor=8))


def test_options_of_a_component_not_chosen_do_not_exist(call: Any) -> None:
    with pytest.raises(click.NoSuchOption, match="--rank"):
        call("--type", "narrow", "--rank", "8")


def test_the_last_of_two_choices_holds(call: Any) -> None:
    assert call("--type", "wide", "--type", "narrow").one("adapter").name == "narrow"


def test_a_qualified_name_chooses_too(call: Any) -> None:
    assert call("--type", "parts:narrow", "--factor", "2").one("adapter").config == NarrowConfig(factor=2)


def test_a_short_flag_inside_another_ones_value_chooses_nothing(call: Any) -> None:
    assert call("-e3", "--preset=").one("adapter").name == "wide"


def test_a_flag_taken_by_a_group_gets_the_slot_in_front(call: Any) -> None:
    settings = call("--scale", "5", "--adapter-scale", "6")
    assert (settings.groups["run"].scale, settings.one("adapter").config.scale) == (5.0, 6.0)


def test_an_unknown_component_is_named_with_what_there_is(call: Any) -> None:
    with pytest.raises(UnknownName, match="no adapter 'wied'; there is narrow, wide; did you mean 'wide'"):
        call("--type", "wied")


def test_a_preset_comes_over_defaults_and_under_the_command_line(call: Any, preset: Any) -> None:
    path = preset("[run]\nepochs = 5\nscale = 4\n[adapter]\ntype = 'wide'\nrank = 16\ndepth = 2\n")
    settings = call("--preset", path, "--rank", "32")
    assert settings.groups["run"] == RunConfig(epochs=5, scale=4.0)
    assert settings.one("adapter").config == WideConfig(rank=32, depth=2)


def test_a_preset_chooses_the_component(call: Any, preset: Any) -> None:
    settings = call("--preset", preset("[adapter]\ntype = 'narrow'\nfactor = 4\n"))
    assert settings.one("adapter") == Choice(name="narrow", config=NarrowConfig(factor=4))


def test_settings_of_a_component_that_the_command_line_replaces_are_left_out(call: Any, preset: Any) -> None:
    settings = call("--preset", preset("[adapter]\ntype = 'narrow'\nfactor = 4\n"), "--type", "wide")
    assert settings.one("adapter") == Choice(name="wide", config=WideConfig())


def test_a_table_that_the_command_does_not_have_is_refused(call: Any, preset: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"preset 'saved': no table \[adaptor\]; there is run, extra, adapter, lr-control, watch"
    ):
        call("--preset", preset("[adaptor]\nrank = 4\n"))


def test_a_table_of_a_locked_group_is_kept_for_when_it_is_unlocked(call: Any, preset: Any) -> None:
    path = preset("[extra]\nfolder = 'here'\n")
    assert "extra" not in call("--preset", path).groups
    assert call("--preset", path, "--extra").groups["extra"].folder == "here"


def test_several_components_share_a_slot(call: Any) -> None:
    settings = call("--schedule", "flat", "--lr-control", "damp", "--floor", "0.5")
    assert settings.slots["lr-control"] == (Choice(name="flat"), Choice(name="damp", config=CurveConfig(floor=0.5)))


def test_the_second_of_two_equal_flags_gets_its_components_name(call: Any) -> None:
    settings = call("--lr-control", "damp", "--floor", "0.5", "--damp-floor", "0.7")
    assert [choice.config.floor for choice in settings.slots["lr-control"]] == [0.5, 0.7]


def test_a_component_named_twice_is_there_once(call: Any) -> None:
    settings = call("--schedule", "flat", "--lr-control", "damp", "--lr-control", "damp")
    assert [choice.name for choice in settings.slots["lr-control"]] == ["flat", "damp"]


def test_the_schedule_flag_replaces_the_first_of_a_preset(call: Any, preset: Any) -> None:
    path = preset("[lr-control.down]\nfloor = 0.2\n[lr-control.damp]\nfloor = 0.3\n")
    settings = call("--preset", path, "--schedule", "flat")
    assert settings.slots["lr-control"] == (Choice(name="flat"), Choice(name="damp", config=CurveConfig(floor=0.3)))


def test_a_slot_without_a_flag_to_choose_always_has_its_default(call: Any, preset: Any) -> None:
    path = preset("[watch.damp]\nfloor = 0.3\n")
    names = [choice.name for choice in call("--preset", path, "--watch", "down").slots["watch"]]
    assert names == ["flat", "damp", "down"]


def test_a_component_of_a_slot_that_takes_several_must_have_a_table(call: Any, preset: Any) -> None:
    with pytest.raises(ConfigError, match=r"lr-control\.down: must be a table such as \[lr-control\.down\]"):
        call("--preset", preset("[lr-control]\ndown = 3\n"))


def test_a_component_without_settings_refuses_any(call: Any, preset: Any) -> None:
    with pytest.raises(ConfigError, match=r"lr-control\.flat\.floor: flat has no settings"):
        call("--preset", preset("[lr-control.flat]\nfloor = 0.2\n"))


def test_a_locked_group_brings_no_options_until_unlocked(call: Any) -> None:
    with pytest.raises(click.NoSuchOption):
        call("--folder", "here")
    assert call("--extra", "--folder", "here").groups["extra"].folder == "here"


@pytest.mark.parametrize("flag", ["-x", "--ep"])
def test_an_unlocked_group_brings_neither_aliases_nor_short_flags(call: Any, flag: str) -> None:
    with pytest.raises(click.NoSuchOption):
        call("--extra", flag, "2")


def test_an_unlocked_groups_taken_flag_gets_its_name_in_front(call: Any) -> None:
    settings = call("--extra", "-e", "7", "--extra-epochs", "2")
    assert (settings.groups["run"].epochs, settings.groups["extra"].epochs) == (7, 2)


def test_all_faults_are_reported_together_as_they_were_given(call: Any, preset: Any) -> None:
    path = preset("[run]\nepoch = 3\n[adapter]\ndepth = 0\n")
    with pytest.raises(ConfigError) as caught:
        call("--preset", path, "-e", "0", "--rank", "-1", "--floor", "-2")
    assert str(caught.value).splitlines() == [
        "--epochs: must be at least 1, got 0",
        "run.epoch: no such setting; did you mean 'epochs'?",
        "--rank: must be at least 1, got -1",
        "adapter.depth: must be at least 1, got 0",
        "--floor: must be at least 0, got -2",
    ]


def test_help_shows_the_chosen_components_options_under_their_heading(help_text: Any) -> None:
    text = help_text("--type", "narrow")
    assert "Adapter: narrow:\n  --factor N" in text
    assert "--rank" not in text


def test_help_lists_the_components_there_are(help_text: Any) -> None:
    assert " ".join(help_text().split()).count("Type. [narrow, wide; default wide]") == 1


def test_advanced_settings_stand_last(help_text: Any) -> None:
    headings = [line for line in help_text().splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Components:", "Run:", "Adapter: wide:", "Rate: down:", "Advanced:"]


def test_help_shows_what_a_flag_unlocks_once_it_is_given(help_text: Any) -> None:
    assert "Extra:" not in help_text()
    assert "Extra:" in help_text("--extra")


def test_an_unknown_preset_says_what_there_is(call: Any) -> None:
    with pytest.raises(SidestepError, match="no preset 'fast'"):
        call("--preset", "fast")
