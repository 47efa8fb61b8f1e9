"""Measuring training: every way does the same work, on the same frozen weights, and is counted."""

import math
import sys

import attrs
import pytest
import torch
from sidestep_core import hookimpl
from sidestep_core.bench.settings import BenchConfig, BenchFinished
from sidestep_core.bench.startup import measure_start
from sidestep_core.bench.timing import Clock, count_flops, in_turn, matmul, ratio
from sidestep_core.bench.ways import PADDED_ROWS, PEFT, SIDE_STEP, make_sample, other_steps, our_step, without_dropout
from sidestep_core.builtins import plugin as builtins
from sidestep_core.configs import ModelConfig, TargetsConfig
from sidestep_core.device import make_accelerator
from sidestep_core.errors import UnknownName
from sidestep_core.events import Notice
from sidestep_core.history import FOLDER, entries
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.requests import Chosen
from sidestep_core.settings import DATA_VARIABLE, Settings, data_folder
from sidestep_core.targets import choose_targets
from sidestep_core.testing.tiny_run import SMALL, SmallConfig
from sidestep_core.toolkit import Toolkit
from sidestep_core.training import loss
from torch import nn

FRAMES, ROWS = 60, 7
CPU = torch.device("cpu")


class Small:
    """A plugin with the small adapter of the tests."""

    sidestep_api = 1

    def __init__(self, *specs):
        self.sidestep_adapters = hookimpl(lambda: list(specs))


@pytest.fixture(scope="module")
def decoder(tiny_checkpoint):
    return load_decoder(resolve_model(tiny_checkpoint, "base"))


@pytest.fixture(scope="module")
def given(decoder):
    """What every step is made from: targets, accelerator, sample."""
    targets = choose_targets(projection_shapes(decoder.dims), TargetsConfig())
    return targets, make_accelerator("cpu", "fp32"), make_sample(decoder, FRAMES, ROWS, CPU, torch.float32)


@pytest.fixture
def seen(monkeypatch):
    """Note every prediction and its conditioning."""
    noted = []
    usual = loss.flow_matching_loss

    def watch(decoder, batch, t, noise, dtype):
        def watched(noisy, *args, **kwargs):
            flow = decoder(noisy, *args, **kwargs)
            noted.append((flow.detach().clone(), args[1].shape[1]))
            return flow

        return usual(watched, batch, t, noise, dtype)

    monkeypatch.setattr("sidestep_core.bench.ways.flow_matching_loss", watch)
    return noted


def small(**config):
    return Chosen(spec=SMALL, config=SmallConfig(**config))


def test_every_way_starts_from_the_same_prediction(decoder, given, seen):
    our_step(decoder, small(dropout=0.0), *given)()
    others = dict(other_steps(decoder, small(), *given))
    others[PEFT]()
    (ours, _), (theirs, _) = seen
    assert (ours - theirs).abs().max() < 1e-4


def test_other_trainers_rows_are_padded(decoder, given, seen):
    for _, step in other_steps(decoder, small(), *given):
        step()
    assert [rows for _, rows in seen] == [ROWS, PADDED_ROWS]


def test_a_step_trains_and_leaves_the_shared_weights_alone(decoder, given, seen):
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    ours = our_step(decoder, small(dropout=0.0), *given)
    for step in (ours, ours, *(step for _, step in other_steps(decoder, small(), *given))):
        step()
    assert not seen[0][0].equal(seen[1][0])
    after = decoder.state_dict()
    assert before.keys() == after.keys()
    assert all(tensor.equal(after[name]) for name, tensor in before.items())


def test_dropout_is_left_out_where_there_is_one():
    assert without_dropout(small(rank=8)).config == SmallConfig(rank=8, dropout=0.0)
    bare = attrs.evolve(small(), spec=attrs.evolve(SMALL, config=None), config=None)
    assert without_dropout(bare) == bare


def test_recomputing_and_padding_cost_operations(decoder, given):
    counts = {name: count_flops(step) for name, step in other_steps(decoder, small(), *given)}
    assert counts[SIDE_STEP] > 1.3 * counts[PEFT]


def test_operations_of_a_product_are_those_of_the_formula():
    step, operations = matmul(CPU, torch.float32)
    assert count_flops(step) == operations


def test_attention_is_counted_both_ways():
    query = torch.randn(1, 2, 30, 8, requires_grad=True)
    product = 2 * (2 * 30 * 30 * 8)  # of two heads

    def attend():
        return nn.functional.scaled_dot_product_attention(query, query, query)

    assert count_flops(attend) == 2 * product
    # the way back makes the scores again, and has four products of its own
    assert count_flops(lambda: attend().sum().backward()) == 7 * product


def test_steps_are_taken_in_turn_and_the_first_round_does_not_count():
    order = []
    taken = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, Clock(CPU), 2)
    assert order == ["a", "b"] * 3
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_the_median_of_the_rounds_own():
    assert ratio([1.0, 2.0, 30.0], [1.0, 1.0, 10.0]) == 2.0


def test_a_command_that_fails_is_an_error():
    with pytest.raises(Exception, match="returned non-zero exit status 3"):
        measure_start("it", [sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize("settings", [{"seconds": ()}, {"seconds": (0.5,)}, {"seconds": (601,)}, {"hidden": 100}])
def test_settings_that_cannot_be_measured_are_refused(settings):
    with pytest.raises(ValueError, match=r"seconds must be|multiple of 32"):
        BenchConfig(**settings)


SETTINGS = BenchConfig(reference="small", seconds=(1.0,), rounds=1, hidden=32, layers=2, window=16, rows=5)
LACKING = attrs.evolve(SMALL, name="lacking", needs=("no-such-distribution",))


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    settings = Settings(tmp_path_factory.mktemp("settings") / "settings.toml")
    return Toolkit(
        plugins={"builtins": builtins, "small": Small(SMALL, LACKING)}, entry_points=False, settings=settings
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Give the tests a data folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_VARIABLE, str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def events(toolkit, home):
    starts = {"list": (sys.executable, "-c", "import os, sys; os.listdir(sys.argv[1])", "{tensors}")}
    return list(toolkit.bench(SETTINGS, ModelConfig(device="cpu"), starts=starts))


def test_everything_is_measured_and_told(events):
    assert [event.message for event in events if isinstance(event, Notice)] == [
        "lacking is left out: it needs no-such-distribution",
        "1 s of audio: training steps",
        "1 s of audio: a run",
        "commands",
    ]
    done = events[-1]
    assert isinstance(done, BenchFinished)
    assert (done.device, done.precision, done.clock) == ("cpu", "fp32", "processor")
    assert [figure.way for figure in done.steps] == ["small", PEFT, SIDE_STEP]
    assert [figure.adapter for figure in done.steps] == [True, False, False]
    assert done.steps[0].ratio == 1.0
    figures = [value for f in done.steps for value in (f.time, f.ratio, f.flops, f.matmul, f.share)]
    assert all(math.isfinite(figure) and figure > 0 for figure in figures)
    assert [loop.seconds for loop in done.loops] == [1.0]
    assert [start.command for start in done.starts] == ["list"]


def test_the_run_that_was_measured_is_not_in_the_history(events, toolkit):
    assert list((data_folder() / FOLDER).parent.iterdir()) == [data_folder() / FOLDER]  # it was there for a while
    assert entries() == []


def test_an_unknown_type_is_refused_before_anything_is_made(toolkit):
    with pytest.raises(UnknownName, match="no adapter 'lorra'; there is lacking, small"):
        next(toolkit.bench(attrs.evolve(SETTINGS, reference="lorra"), ModelConfig(device="cpu")))
