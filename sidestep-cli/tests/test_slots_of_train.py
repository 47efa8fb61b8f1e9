"""The component slots of `train` with several components in them, from plugins and presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.builtins import plugin as builtins
from sidestep_core.hookspecs import hookimpl
from sidestep_core.options import config, option
from sidestep_core.requests import Choice, TrainRequest
from sidestep_core.specs import AdapterType, LRControllerType, ObserverType, OptimizerType

RunCli = Callable[..., Any]
Ask = Callable[..., TrainRequest]


@config
class DampConfig:
    """Settings of a controller that follows the loss."""

    target: float = option(default=0.5, flag="--wanted-loss", above=0, help="Loss to stay at.")
    smoothing: float = option(default=0.98, at_least=0, below=1, help="Share of the past.")


@config
class StepConfig:
    """Settings of another controller; one has the same name."""

    smoothing: float = option(default=0.5, at_least=0, below=1, help="Share of the past.")
    stride: int = option(default=10, at_least=1, help="Steps.")


@config
class BlockConfig:
    """Settings of an adapter."""

    block_size: int = option(default=4, at_least=1, help="Size of a block.")
    seed: int = option(default=1, help="Seed of the blocks.")


@config
class PaperConfig:
    """Settings of an observer."""

    folder: Path | None = option(default=None, help="Where to write.")
    names: tuple[str, ...] = option(default=(), help="What to write.")


class More:
    """A plugin with one more component of most kinds."""

    sidestep_api = 1

    @hookimpl
    def sidestep_lr_controllers(self) -> list[LRControllerType]:
        """Return two."""
        configs = {"damp": DampConfig, "steps_down": StepConfig}
        return [LRControllerType(name=n, summary="A test", config=c, target="a:B") for n, c in configs.items()]

    @hookimpl
    def sidestep_adapters(self) -> list[AdapterType]:
        """Return one, under a name that sidestep has too, and one of its own."""
        return [
            AdapterType(name="blocks", summary="A test", config=BlockConfig, target="a:B"),
            AdapterType(name="lora", summary="Another one", config=BlockConfig, target="a:B"),
        ]

    @hookimpl
    def sidestep_observers(self) -> list[ObserverType]:
        """Return one with settings, one without."""
        return [
            ObserverType(name="paper", summary="A test", config=PaperConfig, target="a:B"),
            ObserverType(name="bell", summary="A test", target="a:B"),
        ]

    @hookimpl
    def sidestep_optimizers(self) -> list[OptimizerType]:
        """Return one without settings."""
        return [OptimizerType(name="plain_descent", summary="A test", target="a:B")]


class Other:
    """A plugin that offers a name of the first."""

    sidestep_api = 1

    @hookimpl
    def sidestep_observers(self) -> list[ObserverType]:
        """Return one of the same name."""
        return [ObserverType(name="bell", summary="A test", target="a:B")]


@pytest.fixture
def toolkit(tmp_path: Path, noting: Any) -> Any:
    """Return a toolkit with what is installed and the plugins of these tests."""
    made = type(noting)(tmp_path)
    made.plugins = type(made.plugins)(extra={"more": More(), "other": Other()}, disabled=["*", "sidestep-cli"])
    return made


@pytest.fixture
def ask(run_cli: RunCli, toolkit: Any) -> Ask:
    """Return a function that gives a command line to `train` and returns the run it asks for."""

    def call(*words: str) -> TrainRequest:
        result = run_cli("train", *words, toolkit=toolkit)
        assert result.err == "error: noted\n"
        return toolkit.requests[-1]  # type: ignore[no-any-return]

    return call


@pytest.fixture
def refused(run_cli: RunCli, toolkit: Any) -> Callable[..., list[str]]:
    """Return a function that gives a wrong command line to `train` and returns what is said."""

    def call(*words: str) -> list[str]:
        result = run_cli("train", *words, toolkit=toolkit)
        assert (result.code, result.out, toolkit.requests) == (2, "", [])
        return result.err.splitlines()  # type: ignore[no-any-return]

    return call


@pytest.fixture
def preset(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Return a function that saves a preset and returns the words that choose it."""

    def write(text: str) -> tuple[str, str]:
        (tmp_path / "it.toml").write_text(text)
        return "--preset", "it.toml"

    return write


def test_controllers_come_in_the_order_they_were_named(ask: Ask) -> None:
    request = ask("--lr-control", "steps_down", "--scheduler-type", "constant", "--lr-control", "damp")
    assert [choice.name for choice in request.controllers] == ["constant", "steps_down", "damp"]


def test_each_controller_has_its_own_settings(ask: Ask) -> None:
    request = ask("--lr-control", "damp", "--lr-control", "steps_down", "--wanted-loss", "0.25", "--stride", "3")
    assert request.controllers[1:] == (
        Choice(name="damp", config=DampConfig(target=0.25)),
        Choice(name="steps_down", config=StepConfig(stride=3)),
    )


def test_a_flag_that_two_controllers_have_belongs_to_the_first(ask: Ask) -> None:
    both = ("--lr-control", "damp", "--lr-control", "steps_down")
    request = ask(*both, "--smoothing", "0.1", "--steps-down-smoothing", "0.2")
    assert [choice.config.smoothing for choice in request.controllers[1:]] == [0.1, 0.2]


def test_alone_the_second_one_has_the_short_flag(ask: Ask) -> None:
    assert ask("--lr-control", "steps_down", "--smoothing", "0.2").controllers[1].config.smoothing == 0.2


def test_help_shows_the_flag_that_really_sets_it(run_cli: RunCli, toolkit: Any) -> None:
    args = ("train", "--lr-control", "damp", "--lr-control", "steps_down", "--help")
    text = run_cli(*args, toolkit=toolkit).out
    section = text.partition("Learning rate: steps_down:\n")[2].partition("\n\n")[0]
    assert "--steps-down-smoothing X" in section
    assert "--stride N" in section


def test_a_setting_whose_flag_the_run_has_gets_the_adapters_name(ask: Ask) -> None:
    request = ask("--adapter-type", "blocks", "--seed", "5", "--adapter-seed", "6", "--block-size", "8")
    assert request.train.seed == 5
    assert request.adapter == Choice(name="blocks", config=BlockConfig(block_size=8, seed=6))


def test_a_name_of_sidesteps_own_stays_its_own(ask: Ask) -> None:
    assert type(ask("--adapter-type", "lora", "--rank", "4").adapter.config).__name__ == "LoraConfig"


def test_the_other_one_of_that_name_is_had_by_its_full_name(ask: Ask) -> None:
    request = ask("--adapter-type", "more:lora", "--block-size", "2")
    assert request.adapter == Choice(name="more:lora", config=BlockConfig(block_size=2))


@pytest.mark.parametrize("name", ["more:bell", "other:bell"])
def test_of_two_third_parties_each_is_had_by_its_full_name(ask: Ask, name: str) -> None:
    assert [choice.name for choice in ask("--observe", name).observers] == ["progress", name]


def test_an_ambiguous_name_says_both_full_ones(refused: Callable[..., list[str]]) -> None:
    assert refused("--observe", "bell") == [
        "error: observer 'bell' is offered by more than one plugin; say more:bell or other:bell"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--adapter-type", "block"), "did you mean 'blocks'?"),
        (("--timestep-mode", "turbo"), "no timestep-sampler 'turbo'; there is "),
        (("--scheduler-type", "cosin"), "no lr-controller 'cosin'; there is"),
        (("--lr-control", "damping"), "did you mean 'damp'?"),
        (("--optimizer-type", "adamv"), "did you mean 'adamw'?"),
        (("--observe", "papers"), "did you mean 'paper'?"),
        (("--adapter-type", "nobody:lora"), "no adapter 'nobody:lora'"),
    ],
)
def test_an_unknown_component_is_named_with_what_there_is(
    refused: Callable[..., list[str]], words: tuple[str, ...], message: str
) -> None:
    (line,) = refused(*words)
    assert line.startswith("error: no ")
    assert message in line


def test_observers_are_added_and_progress_stays(ask: Ask) -> None:
    request = ask("--observe", "paper", "--folder", "notes", "--names", "loss", "rate")
    assert request.observers == (
        Choice(name="progress"),
        Choice(name="paper", config=PaperConfig(folder=Path("notes"), names=("loss", "rate"))),
    )


def test_an_optimizer_without_settings_takes_none(ask: Ask, refused: Callable[..., list[str]]) -> None:
    assert ask("--optimizer-type", "plain_descent").optimizer == Choice(name="plain_descent")


def test_flags_of_the_optimizer_that_was_left_are_unknown(refused: Callable[..., list[str]]) -> None:
    lines = refused("--optimizer-type", "plain_descent", "--weight-decay", "0.1")
    assert lines[0].startswith("error: No such option '--weight-decay'")


def test_a_preset_fills_several_slots_at_once(ask: Ask, preset: Callable[[str], tuple[str, str]]) -> None:
    words = preset(
        "[adapter]\ntype = 'blocks'\nblock_size = 3\n"
        "[lr-control.constant]\n[lr-control.damp]\ntarget = 0.1\n"
        "[observe.paper]\nfolder = 'notes'\n"
        "[timesteps]\ntype = 'discrete'\n[optimizer]\ntype = 'plain_descent'\n"
    )
    request = ask(*words)
    assert request.adapter.config.block_size == 3
    assert request.controllers == (Choice(name="constant"), Choice(name="damp", config=DampConfig(target=0.1)))
    assert [choice.name for choice in request.observers] == ["progress", "paper"]
    assert (request.timesteps.name, request.optimizer.name) == ("discrete", "plain_descent")


def test_flags_change_the_components_of_a_preset(ask: Ask, preset: Callable[[str], tuple[str, str]]) -> None:
    words = preset("[lr-control.damp]\ntarget = 0.1\nsmoothing = 0.3\n[observe.paper]\nfolder = 'notes'\n")
    request = ask(*words, "--wanted-loss", "0.2", "--folder", "elsewhere")
    assert request.controllers == (Choice(name="damp", config=DampConfig(target=0.2, smoothing=0.3)),)
    assert request.observers[1].config.folder == Path("elsewhere")


def test_a_controller_is_added_to_those_of_a_preset(ask: Ask, preset: Callable[[str], tuple[str, str]]) -> None:
    words = preset("[lr-control.constant]\n[lr-control.damp]\n")
    names = [choice.name for choice in ask(*words, "--lr-control", "steps_down").controllers]
    assert names == ["constant", "damp", "steps_down"]


def test_a_preset_of_an_adapter_does_not_reach_another_adapter(
    ask: Ask, preset: Callable[[str], tuple[str, str]]
) -> None:
    words = preset("[adapter]\ntype = 'lora'\nrank = 3\n")
    assert ask(*words, "--adapter-type", "blocks").adapter == Choice(name="blocks", config=BlockConfig())


def test_faults_of_all_components_are_told_together(refused: Callable[..., list[str]]) -> None:
    words = ("--lr-control", "damp", "--wanted-loss", "0", "--smoothing", "1", "--adapter-type", "blocks")
    assert refused(*words, "--block-size", "0", "--epochs", "0") == [
        "error: --epochs: must be at least 1, got 0",
        "error: --block-size: must be at least 1, got 0",
        "error: --wanted-loss: must be above 0, got 0",
        "error: --smoothing: must be below 1, got 1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[adapter]\ntype = 'nothing'\n", "no adapter 'nothing'"),
        ("[adapter]\nrang = 3\n", "adapter.rang: no such setting; did you mean 'rank'?"),
        ("[adapter]\ntype = 'lora'\nrank = '3'\n", "adapter.rank: expected int, got '3'"),
        ("[lr-control.damp]\ntarget = true\n", "lr-control.damp.target: expected float, got True"),
        ("[lr-control]\ntype = 'cosine'\n", "lr-control.type: must be a table such as [lr-control.type]"),
        ("[targets]\ntarget_modules = 'q_proj'\n", "targets.target_modules: expected a list, got 'q_proj'"),
        ("[targets]\nattention = 'all'\n", "targets.attention: expected one of self, cross, both; got 'all'"),
        ("[train]\nlearning_rate = nan\n", "train.learning_rate: expected a finite number, got nan"),
        ("[data]\nchunk_duration = inf\n", "data.chunk_duration: expected a finite number, got inf"),
        ("[trian]\nepochs = 3\n", "no table [trian]; there is model, data, train"),
        ("[train\n", "cannot be read"),
        ("epochs = 3\n", "'epochs' must stand in a table such as [train]"),
    ],
)
def test_a_wrong_preset_is_refused_with_the_place(
    refused: Callable[..., list[str]], preset: Callable[[str], tuple[str, str]], text: str, message: str
) -> None:
    (line,) = refused(*preset(text))
    assert message in line


def test_faults_of_a_preset_and_of_flags_are_told_together(
    refused: Callable[..., list[str]], preset: Callable[[str], tuple[str, str]]
) -> None:
    words = preset("[train]\nepochs = 0\n[adapter]\nrank = 0\n[run]\nsave_evry = 3\n")
    assert refused(*words, "--batch-size", "0") == [
        "error: --batch-size: must be at least 1, got 0",
        "error: train.epochs: must be at least 1, got 0",
        "error: run.save_evry: no such setting; did you mean 'save_every'?",
        "error: adapter.rank: must be at least 1, got 0",
    ]


def test_every_builtin_component_can_be_chosen_by_its_full_name(ask: Ask) -> None:
    for flag, hook in (
        ("--timestep-mode", "sidestep_timestep_samplers"),
        ("--scheduler-type", "sidestep_lr_controllers"),
        ("--optimizer-type", "sidestep_optimizers"),
    ):
        for spec in getattr(builtins, hook)():
            ask(flag, f"core:{spec.name}")
