"""The contracts pass what keeps them and fail what does not."""

import contextlib
import functools
import types

import attrs
import pytest
import torch
from sidestep_core import config, option
from sidestep_core.errors import AdapterError, ExportError
from sidestep_core.files import write_atomic
from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.reading import read_updates
from sidestep_core.formats.saved import read_adapter
from sidestep_core.formats.updates import LowRank
from sidestep_core.interfaces import ExportReport
from sidestep_core.model.names import module_path
from sidestep_core.specs import AdapterType, ExporterType, LRControllerType, TimestepSamplerType
from sidestep_core.testing.adapters import Bench
from sidestep_core.testing.contracts import (
    AdapterContract,
    ExporterContract,
    LRControllerContract,
    PluginContract,
    TimestepSamplerContract,
)
from torch import nn


@config
class RankConfig:
    """Settings of the adapter under test."""

    rank: int = option(default=2, at_least=1, help="Width of the matrices.")


class PlainLora:
    """An adapter without any library: forward hooks that add B @ A."""

    def __init__(self, config, context):
        self.rank, self.seed, self.factors, self.on = config.rank, context.seed, {}, True

    def attach(self, decoder, targets):
        decoder.requires_grad_(False)
        generator = torch.Generator().manual_seed(self.seed)
        for target in targets:
            rank = target.rank or self.rank
            down = nn.Parameter(torch.randn(rank, target.in_features, generator=generator))
            up = nn.Parameter(torch.zeros(target.out_features, rank))
            self.factors[target.name] = (down, up)
            layer = decoder.get_submodule(f"transformer.{module_path(target.name)}")
            layer.register_forward_hook(functools.partial(self.add, down=down, up=up))

    def add(self, layer, inputs, output, *, down, up):
        return output + (inputs[0].float() @ down.T @ up.T).to(output.dtype) if self.on else output

    @contextlib.contextmanager
    def disabled(self):
        self.on = False
        try:
            yield
        finally:
            self.on = True

    def parameters(self):
        return [(f"{name}.{part}", pair[part]) for name, pair in self.factors.items() for part in (0, 1)]

    def groups(self, learning_rate):
        return [{"params": [p for _, p in self.parameters()], "lr": learning_rate}]

    def state_dict(self):
        return {name: p.detach() for name, p in self.parameters()}

    def load_state_dict(self, state):
        if wrong := state.keys() ^ self.state_dict().keys():
            raise AdapterError(f"state does not fit: {sorted(wrong)}")
        for name, own in self.state_dict().items():
            own.copy_(state[name])

    def modules(self):
        return [LowRank(name=n, down=down.detach(), up=up.detach()) for n, (down, up) in self.factors.items()]

    def deltas(self):
        return ((module.name, module.delta()) for module in self.modules())

    def save(self, folder, *, metadata):
        folder.mkdir()
        files = peft_files(self.modules(), metadata)
        for name, content in files.items():
            write_atomic(folder / name, content)
        return [folder / name for name in files]


@attrs.frozen(kw_only=True)
class PlainType(AdapterType):
    def load(self):
        return PlainLora


PLAIN = PlainType(
    name="plain",
    summary="B @ A by hand",
    target="nowhere:Nothing",
    config=RankConfig,
    count=lambda config, out, in_, rank: (rank or config.rank) * (out + in_),
)


class TestAnAdapterWithoutAnyLibrary(AdapterContract):
    """Passes all of the contract, and each damage to it is caught."""

    @pytest.fixture
    def spec(self):
        return PLAIN

    def test_a_changed_base_weight_is_caught(self, trained: Bench):
        trained.decoder.transformer.layers[0].mlp.up_proj.weight.data[0, 0] += 1
        with pytest.raises(AssertionError):
            self.test_training_leaves_the_base_weights_alone(trained)

    def test_a_trainable_base_weight_is_caught(self, fresh: Bench):
        fresh.decoder.transformer.layers[0].mlp.up_proj.weight.requires_grad_(True)
        with pytest.raises(AssertionError):
            self.test_only_the_adapters_own_parameters_are_trained(fresh)

    def test_a_start_that_changes_the_output_is_caught(self, fresh: Bench):
        fresh.adapter.parameters()[1][1].data.add_(0.1)
        with pytest.raises(AssertionError):
            self.test_a_fresh_adapter_changes_nothing(fresh)

    def test_a_wrong_count_is_caught(self, fresh: Bench):
        with pytest.raises(AssertionError):
            self.test_the_parameter_count_is_what_the_plan_says(fresh, attrs.evolve(PLAIN, count=lambda *_: 7))

    def test_ranks_that_are_passed_over_are_caught(self, make, spec):
        def passing_over(ranks):
            return attrs.evolve(make(), targets=make(ranks=ranks).targets)

        with pytest.raises(AssertionError):
            self.test_the_ranks_of_a_rank_map_are_taken(passing_over, spec)

    def test_a_target_left_out_is_caught(self, trained: Bench):
        trained.adapter.factors.popitem()
        with pytest.raises(AssertionError):
            self.test_exactly_the_targets_are_adapted(trained)

    def test_a_parameter_that_never_moves_is_caught(self, fresh: Bench):
        fresh.adapter.factors["idle"] = (nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1)))
        with pytest.raises(AssertionError):
            self.test_training_moves_every_parameter(fresh)

    def test_wrong_deltas_are_caught(self, trained: Bench, fresh: Bench):
        trained.adapter.deltas = lambda: ((m.name, 2 * m.delta()) for m in trained.adapter.modules())
        with pytest.raises(AssertionError):
            self.test_the_deltas_are_what_the_adapter_adds_to_the_weights(trained, fresh)

    def test_one_that_cannot_be_disabled_is_caught(self, trained: Bench):
        trained.adapter.disabled = contextlib.nullcontext
        with pytest.raises(AssertionError):
            self.test_while_it_is_disabled_the_decoder_is_as_it_was_before(trained)

    def test_one_that_stays_disabled_after_a_failure_is_caught(self, trained: Bench):
        @contextlib.contextmanager
        def disabled():
            trained.adapter.on = False
            yield
            trained.adapter.on = True

        trained.adapter.disabled = disabled
        with pytest.raises(AssertionError):
            self.test_nothing_is_left_of_having_been_disabled(trained, True)

    def test_one_that_leaves_dropout_off_is_caught(self, trained: Bench):
        @contextlib.contextmanager
        def disabled():
            trained.decoder.transformer.layers[0].train(not trained.decoder.training)
            yield

        trained.adapter.disabled = disabled
        with pytest.raises(AssertionError):
            self.test_nothing_is_left_of_having_been_disabled(trained, False)

    def test_a_file_that_holds_something_else_is_caught(self, trained: Bench, tmp_path):
        trained.adapter.deltas = lambda: ((m.name, 2 * m.delta()) for m in trained.adapter.modules())
        with pytest.raises(AssertionError):
            self.test_saved_files_hold_the_deltas(trained, tmp_path)


class Copy:
    """An exporter that writes the files of a PEFT folder again."""

    def __init__(self, config, context):
        pass

    def export(self, request):
        if request.dtype == "int4":
            raise ExportError("no dtype 'int4'")
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "keep": None}
        modules = [m.folded(dtypes[request.dtype]) for m in read_updates(read_adapter(request.adapter))]
        output = request.output or request.adapter.with_name("copy")
        output.mkdir()
        for name, content in peft_files(modules, {}).items():
            write_atomic(output / name, content)
        return ExportReport(
            paths=(output,), modules=len(modules), error=0.0 if request.verify else None, reader="nobody"
        )


@attrs.frozen(kw_only=True)
class CopyType(ExporterType):
    def load(self):
        return Copy


class TestAnExporter(ExporterContract):
    @pytest.fixture
    def spec(self):
        return CopyType(name="copy", summary="The same again", target="nowhere:Nothing")

    def test_one_that_writes_into_the_adapter_is_caught(self, exporter, folder):
        writes = types.SimpleNamespace(export=lambda _: (folder / "more.txt").write_text("x"))
        with pytest.raises(AssertionError):
            self.test_the_adapter_itself_stays_as_it_is(writes, folder)

    def test_one_without_a_proof_is_caught(self, exporter, folder):
        silent = types.SimpleNamespace(export=lambda request: attrs.evolve(exporter.export(request), error=None))
        with pytest.raises(AssertionError):
            self.test_the_proof_matches_every_module(silent, folder, "keep", 1e-5)


# Samplers and controllers


class Draws:
    """A sampler that gives what a function makes of the batch size and generator."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, batch_size, *, generator):
        return self.draw(batch_size, generator)


@attrs.frozen(kw_only=True)
class LocalSampler(TimestepSamplerType):
    def load(self):
        return lambda config, context: Draws(lambda n, g: 1 - torch.rand(n, generator=g))


class TestASampler(TimestepSamplerContract):
    @pytest.fixture
    def spec(self):
        return LocalSampler(name="uniform", summary="Any timestep", target="nowhere:Nothing")

    @pytest.mark.parametrize("value", [0.0, -0.1, 1.1])
    def test_timesteps_out_of_range_are_caught(self, value):
        with pytest.raises(AssertionError):
            self.test_timesteps_lie_above_zero_and_reach_at_most_one(Draws(lambda n, _: torch.full((n,), value)))

    @pytest.mark.parametrize("draw", [lambda n, _: torch.rand(n, 1), lambda n, _: torch.rand(n).double()])
    def test_another_shape_or_dtype_is_caught(self, draw):
        with pytest.raises(AssertionError):
            self.test_there_is_one_float32_timestep_for_each_sample(Draws(draw), 5)

    def test_the_global_generator_is_caught(self):
        with pytest.raises(AssertionError):
            self.test_the_generator_alone_decides(Draws(lambda n, _: torch.rand(n)))


class Halving:
    """A controller that counts its own calls."""

    calls = 0

    def scale(self, progress):
        self.calls += 1
        return 0.5**self.calls


@attrs.frozen(kw_only=True)
class LocalController(LRControllerType):
    def load(self):
        return lambda config, context: types.SimpleNamespace(scale=lambda progress: 1.0)


class TestAController(LRControllerContract):
    @pytest.fixture
    def spec(self):
        return LocalController(name="flat", summary="Always the peak", target="nowhere:Nothing")

    def test_one_that_counts_calls_is_caught(self):
        with pytest.raises(AssertionError):
            self.test_the_factor_depends_on_nothing_but_progress(Halving())

    @pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
    def test_impossible_factors_are_caught(self, factor):
        with pytest.raises(AssertionError):
            self.test_the_factor_is_finite_and_never_negative(types.SimpleNamespace(scale=lambda _: factor))

    def test_a_division_by_no_steps_is_caught(self):
        with pytest.raises(ZeroDivisionError):
            self.test_a_run_without_steps_after_the_warm_up_has_a_factor(
                types.SimpleNamespace(scale=lambda progress: progress.step / progress.total_steps)
            )


# Plugins


class TestThisPackagesOwnPlugin(PluginContract):
    plugin = "sidestep_core.builtins.plugin"


def test_a_plugin_with_a_fault_is_caught(tmp_path, monkeypatch):
    (tmp_path / "heavy_plugin.py").write_text("import numpy\nsidestep_api = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    contract = PluginContract()
    contract.plugin = "heavy_plugin"
    with pytest.raises(AssertionError, match="numpy"):
        contract.test_it_has_no_faults()
