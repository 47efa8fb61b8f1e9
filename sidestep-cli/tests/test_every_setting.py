"""Every setting of the commands that have them: by each of its flags, by a preset, and which of the two wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
import tomli_w
from sidestep_cli.commands.analyze import analyze
from sidestep_cli.commands.preprocess import preprocess
from sidestep_cli.commands.train import GROUPS, INLINE, SLOTS
from sidestep_cli.parts import Part, find_parts
from sidestep_cli.slots import SlotCommand
from sidestep_core.configs import ModelConfig, PreprocessConfig
from sidestep_core.options import Option
from sidestep_core.plugins import Plugins
from sidestep_core.requests import TrainRequest

RunCli = Callable[..., Any]
PLUGINS = Plugins(disabled=["*"])


class Case(NamedTuple):
    """A setting with a value that is not its default, and the flags that give it."""

    table: str
    setting: Option
    value: Any
    flags: tuple[str, ...]
    off: tuple[str, ...]

    def words(self, flag: str, value: Any = None) -> list[str]:
        """Return the setting as words of a command line."""
        value = self.value if value is None else value
        if self.setting.type is bool:
            return [flag if value else self.off[self.flags.index(flag)]]
        if flag.startswith("--") or self.setting.many:
            return [flag, *map(str, value if self.setting.many else (value,))]
        return [f"{flag}{value}"]

    def __str__(self) -> str:
        return f"{self.table}.{self.setting.name}"


def another(setting: Option) -> Any:
    """Return a value that the setting can have and that is not its default."""
    if setting.many:
        return tuple(setting.type(value) for value in (("3", "4") if setting.type in (int, float) else ("one", "two")))
    if setting.type is bool:
        return not setting.default
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    if setting.type in (str, Path):
        return setting.type("some/where")
    return _number(setting)


def _number(setting: Option) -> float | int:
    lows = [bound for bound in (setting.at_least, setting.above) if bound is not None]
    highs = [bound for bound in (setting.at_most, setting.below) if bound is not None]
    low = max(lows) if lows else (min(highs) - 40 if highs else 0)
    high = min(highs) if highs else low + 40
    value = low + (high - low) / 4
    made = round(value) if setting.type is int else value
    return made if made != setting.default else made + (high - low) / 4


def cases(parts: Iterator[Part]) -> list[Case]:
    """Return every setting of some parts."""
    return [
        Case(part.table, o.setting, another(o.setting), tuple(o.opts), tuple(o.secondary_opts))
        for part in parts
        for o in part.options
    ]


TRAIN = cases(find_parts(GROUPS, SLOTS, (), plugins=PLUGINS, tables={}, taken={"--help", "-h", "--preset"}))
assert isinstance(preprocess, SlotCommand)
TENSORS = cases(find_parts(preprocess.groups, (), (), plugins=PLUGINS, tables={}, taken={"--help", "-h"}))
assert isinstance(analyze, SlotCommand)
ANALYSIS = cases(find_parts(analyze.groups, (), (), plugins=PLUGINS, tables={}, taken={"--help", "-h"}))
INLINE_TENSORS = [
    case
    for case in cases(find_parts(GROUPS, SLOTS, INLINE, plugins=PLUGINS, tables={}, taken={"--help", "-h", "--preset"}))
    if case.table == "preprocess"
]
PAIRS = [case for case in TRAIN if case.setting.type is bool]
REPEATABLE = [c for c in TRAIN if not c.setting.many and c not in PAIRS and c.setting.default not in (None, "")]


def spellings(found: list[Case]) -> list[Any]:
    return [pytest.param(case, flag, id=f"{case} {flag}") for case in found for flag in case.flags]


def found_in(request: TrainRequest, case: Case) -> Any:
    """Return what a request has for a setting."""
    table, _, component = case.table.partition(".")
    if component:
        choices = {"lr-control": request.controllers, "observe": request.observers}[table]
        config = next(choice.config for choice in choices if choice.name == component)
    else:
        config = getattr(request, table)
        config = config if attrs.has(type(config)) and not hasattr(config, "config") else config.config
    return getattr(config, case.setting.name)


@pytest.fixture
def preset(tmp_path: Path) -> Callable[[Case, Any], str]:
    """Return a function that saves one setting as a preset."""

    def write(case: Case, value: Any) -> str:
        values = [str(v) if isinstance(v, Path) else v for v in (value if case.setting.many else (value,))]
        plain = values if case.setting.many else values[0]
        table, _, component = case.table.partition(".")
        settings: dict[str, Any] = {case.setting.name: plain}
        (tmp_path / "one.toml").write_text(tomli_w.dumps({table: {component: settings} if component else settings}))
        return "one.toml"

    return write


@pytest.fixture
def requested(run_cli: RunCli, noting: Any) -> Callable[..., TrainRequest]:
    """Return a function that gives a command line to `train` and returns the run it asks for."""

    def ask(*words: str) -> TrainRequest:
        result = run_cli("train", *words, toolkit=noting)
        assert result.err == "error: noted\n"
        return noting.requests[-1]  # type: ignore[no-any-return]

    return ask


def test_there_are_settings_to_look_at() -> None:
    tables = {case.table for case in TRAIN}
    assert tables >= {"model", "data", "train", "targets", "memory", "run", "adapter", "timesteps", "lr-control.cosine"}
    assert len(TRAIN) > 40
    assert len(INLINE_TENSORS) == len([case for case in TENSORS if case.table == "preprocess"])


def test_nothing_said_is_every_default(requested: Callable[..., TrainRequest]) -> None:
    request = requested()
    assert [str(case) for case in TRAIN if found_in(request, case) != case.setting.default] == []


@pytest.mark.parametrize(("case", "flag"), spellings(TRAIN))
def test_every_flag_of_train_sets_its_setting(requested: Callable[..., TrainRequest], case: Case, flag: str) -> None:
    assert found_in(requested(*case.words(flag)), case) == case.value


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in TRAIN])
def test_a_preset_sets_every_setting(
    requested: Callable[..., TrainRequest], preset: Callable[[Case, Any], str], case: Case
) -> None:
    assert found_in(requested("--preset", preset(case, case.value)), case) == case.value


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in TRAIN if case.setting.default])
def test_the_command_line_wins_over_a_preset_even_with_the_default(
    requested: Callable[..., TrainRequest], preset: Callable[[Case, Any], str], case: Case
) -> None:
    words = case.words(case.flags[0], case.setting.default)
    assert found_in(requested("--preset", preset(case, case.value), *words), case) == case.setting.default


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in PAIRS])
@pytest.mark.parametrize("value", [True, False])
def test_both_halves_of_a_pair_win_over_a_preset(
    requested: Callable[..., TrainRequest], preset: Callable[[Case, Any], str], case: Case, value: bool
) -> None:
    flag = case.flags[0] if value else case.off[0]
    assert found_in(requested("--preset", preset(case, not value), flag), case) is value


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in PAIRS])
def test_the_last_of_both_halves_holds(requested: Callable[..., TrainRequest], case: Case) -> None:
    on, off = case.flags[0], case.off[0]
    assert (found_in(requested(on, off), case), found_in(requested(off, on), case)) == (False, True)


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in REPEATABLE])
def test_the_last_of_two_values_holds(requested: Callable[..., TrainRequest], case: Case) -> None:
    first = case.words(case.flags[0], case.setting.default)
    assert found_in(requested(*first, *case.words(case.flags[0])), case) == case.value


@pytest.mark.parametrize(("case", "flag"), spellings([case for case in TRAIN if case.setting.many]))
def test_values_after_one_flag_and_after_many_are_the_same(
    requested: Callable[..., TrainRequest], case: Case, flag: str
) -> None:
    one, two = map(str, case.value)
    assert found_in(requested(flag, one, flag, two), case) == case.value
    assert found_in(requested(flag, one, two, "--preset", "recommended"), case) == case.value


@pytest.mark.parametrize(("case", "flag"), spellings(TENSORS))
def test_every_flag_of_preprocess_sets_its_setting(run_cli: RunCli, noting: Any, case: Case, flag: str) -> None:
    needed = ("--audio-dir", "a", "--tensor-output", "t")
    assert run_cli("preprocess", *needed, *case.words(flag), toolkit=noting).code == 0
    ((tensors, model),) = noting.tensors
    config = model if case.table == "model" else tensors
    assert isinstance(config, ModelConfig | PreprocessConfig)
    assert getattr(config, case.setting.name) == case.value


@pytest.mark.parametrize(("case", "flag"), spellings([c for c in ANALYSIS if c.setting.name != "timestep_focus"]))
def test_every_flag_of_analyze_sets_its_setting(run_cli: RunCli, noting: Any, case: Case, flag: str) -> None:
    needed = ("-d", "t", "--rank-max", "1024")
    assert run_cli("analyze", *needed, *case.words(flag), toolkit=noting).err == "error: noted\n"
    ((config, model),) = noting.analyses
    expected = ("t", *case.value) if case.setting.name == "dataset_dir" else case.value
    found = getattr(model if case.table == "model" else config, case.setting.name)
    assert found == (tuple(map(Path, expected)) if case.setting.name == "dataset_dir" else expected)


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in INLINE_TENSORS])
def test_every_setting_of_preprocess_can_be_given_to_train(run_cli: RunCli, noting: Any, case: Case) -> None:
    needed = ("--preprocess-only", "--audio-dir", "a", "--tensor-output", "t")
    assert run_cli("train", *needed, *case.words(case.flags[0]), toolkit=noting).code == 0
    ((tensors, _),) = noting.tensors
    assert getattr(tensors, case.setting.name) == case.value


def test_inline_flags_that_train_has_itself_keep_their_meaning(run_cli: RunCli, noting: Any) -> None:
    words = ("--audio-dir", "a", "--tensor-output", "t", "--seed", "3", "--preprocess-seed", "4", "-o", "run")
    run_cli("train", "--preprocess", *words, toolkit=noting)
    assert (noting.tensors[0][0].seed, noting.tensors[0][0].tensor_output) == (4, Path("t"))
    (request,) = noting.requests
    assert (request.train.seed, request.run.output_dir, request.data.dataset_dir) == (3, Path("run"), (Path("t"),))


def test_tensors_made_inline_do_not_replace_those_that_are_named(run_cli: RunCli, noting: Any) -> None:
    run_cli("train", "--preprocess", "--audio-dir", "a", "--tensor-output", "t", "-d", "others", toolkit=noting)
    assert noting.requests[0].data.dataset_dir == (Path("others"),)
