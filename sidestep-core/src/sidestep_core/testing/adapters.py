"""What every adapter type must keep."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from sidestep_core.errors import AdapterError
from sidestep_core.interfaces import Adapter
from sidestep_core.specs import Spec
from sidestep_core.targets import Target
from sidestep_core.testing.component import ComponentContract

if TYPE_CHECKING:
    from torch import Tensor, nn


@attrs.define
class Bench:
    """An adapter on a tiny decoder, and what is needed to look at it.

    Attributes:
        adapter: the adapter, attached.
        decoder: the decoder that it is on.
        targets: what it was attached to.
        before: the decoder's tensors before that.
        output: what the decoder gave before that.
        run: runs a decoder on inputs that never change.
    """

    adapter: Adapter
    decoder: nn.Module
    targets: tuple[Target, ...]
    before: dict[str, Tensor]
    output: Tensor
    run: Callable[[nn.Module], Tensor]

    def train(self, steps: int = 3) -> None:
        """Take a few steps that move every weight of the adapter."""
        import torch

        optimizer = torch.optim.Adam(self.adapter.groups(1e-2))
        for _ in range(steps):
            self.run(self.decoder).float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()


class AdapterContract(ComponentContract):
    """An adapter type, tried on the projections `adapted`; needs the fixtures of `sidestep_core.testing.fixtures`."""

    kind = "adapter"
    adapted = ("layers.0.self_attn.q_proj", "layers.1.cross_attn.o_proj", "layers.2.mlp.down_proj")

    @pytest.fixture
    def make(self, spec: Spec, tiny_checkpoint: Path) -> Callable[..., Bench]:
        """A function that puts a new adapter on a newly loaded decoder.

        `dtype` is the decoder's; `ranks` are those that a rank map gives the projections, None without one.
        """
        from sidestep_core.model.dims import projection_shapes
        from sidestep_core.model.layout import resolve_model
        from sidestep_core.model.load import load_decoder

        model = resolve_model(tiny_checkpoint, "base")
        shapes = projection_shapes(model.dims)
        targets = tuple(
            Target(name=name, out_features=shapes[name][0], in_features=shapes[name][1]) for name in self.adapted
        )

        def make(dtype: str = "float32", ranks: Sequence[int] | None = None) -> Bench:
            import torch

            on = targets if ranks is None else self.mapped(spec, targets, ranks)
            decoder = load_decoder(model, dtype=getattr(torch, dtype)).eval()
            run = _forward(model.dims.condition_size)
            with torch.no_grad():
                output = run(decoder)
            before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
            adapter = spec.build(self.config, self.context)
            adapter.attach(decoder, on)
            return Bench(adapter, decoder, on, before, output, run)

        return make

    def mapped(self, spec: Any, targets: Sequence[Target], ranks: Sequence[int]) -> tuple[Target, ...]:
        """Return targets with the ranks of a rank map, in sizes as the type takes them."""
        config = spec.config() if self.config is None else self.config
        given = [attrs.evolve(target, rank=r, alpha=2 * r) for target, r in zip(targets, ranks, strict=True)]
        return tuple(spec.fit(config, given))

    @pytest.fixture
    def fresh(self, make: Callable[..., Bench]) -> Bench:
        """An adapter that was never trained."""
        return make()

    @pytest.fixture
    def trained(self, make: Callable[..., Bench]) -> Bench:
        """An adapter after a few steps."""
        bench = make()
        bench.train()
        return bench

    def saved_deltas(self, folder: Path) -> Mapping[str, Tensor]:
        """Return the weight differences in a saved folder; override for formats the core does not read."""
        from sidestep_core.formats.reading import deltas
        from sidestep_core.formats.saved import read_adapter

        return dict(deltas(read_adapter(folder)))

    def test_a_fresh_adapter_changes_nothing(self, fresh: Bench) -> None:
        assert _near(fresh.run(fresh.decoder), fresh.output, 1e-6)

    def test_only_the_adapters_own_parameters_are_trained(self, fresh: Bench) -> None:
        own = {id(parameter) for _, parameter in fresh.adapter.parameters()}
        assert own
        assert {id(p) for p in fresh.decoder.parameters() if p.requires_grad} <= own

    def test_exactly_the_targets_are_adapted(self, trained: Bench) -> None:
        assert sorted(name for name, _ in trained.adapter.deltas()) == sorted(self.adapted)

    def test_the_parameter_count_is_what_the_plan_says(self, fresh: Bench, spec: Any) -> None:
        config = spec.config() if self.config is None else self.config
        planned = [spec.count(config, t.out_features, t.in_features, t.rank) for t in fresh.targets]
        assert sum(parameter.numel() for _, parameter in fresh.adapter.parameters()) == sum(planned)

    def test_the_ranks_of_a_rank_map_are_taken(self, make: Callable[..., Bench], spec: Any) -> None:
        bench = make(ranks=(16, 24, 8))
        config = spec.config() if self.config is None else self.config
        planned = [spec.count(config, t.out_features, t.in_features, t.rank) for t in bench.targets]
        assert sum(parameter.numel() for _, parameter in bench.adapter.parameters()) == sum(planned)
        assert sorted(name for name, _ in bench.adapter.deltas()) == sorted(self.adapted)

    def test_training_leaves_the_base_weights_alone(self, trained: Bench) -> None:
        after = list(trained.decoder.state_dict().values())
        # layers may be wrapped, so that base weights have other names now
        assert all(any(old.equal(new) for new in after) for old in trained.before.values())

    def test_training_moves_every_parameter(self, fresh: Bench) -> None:
        start = {name: weight.detach().clone() for name, weight in fresh.adapter.parameters()}
        fresh.train()
        assert [name for name, weight in fresh.adapter.parameters() if weight.equal(start[name])] == []

    def test_state_restores_the_output(self, trained: Bench, fresh: Bench) -> None:
        fresh.adapter.load_state_dict(trained.adapter.state_dict())
        assert fresh.run(fresh.decoder).equal(trained.run(trained.decoder))
        assert not _near(fresh.run(fresh.decoder), fresh.output, 1e-4)

    def test_state_of_another_adapter_is_refused(self, fresh: Bench) -> None:
        state = fresh.adapter.state_dict()
        with pytest.raises(AdapterError, match=sorted(state)[0]):
            fresh.adapter.load_state_dict({name: state[name] for name in sorted(state)[1:]})

    def test_the_seed_alone_decides_the_start(self, make: Callable[..., Bench]) -> None:
        import torch

        first = make().adapter.state_dict()
        torch.rand(3)
        random = torch.get_rng_state()
        again = make().adapter.state_dict()
        assert all(weight.equal(again[name]) for name, weight in first.items())
        assert torch.get_rng_state().equal(random)

    def test_the_deltas_are_what_the_adapter_adds_to_the_weights(self, trained: Bench, fresh: Bench) -> None:
        merged = fresh.run(_merged(fresh.decoder, dict(trained.adapter.deltas())))
        assert _near(merged, trained.run(trained.decoder), 1e-5)

    def test_saved_files_hold_the_deltas(self, trained: Bench, tmp_path: Path) -> None:
        written = trained.adapter.save(tmp_path / "adapter", metadata={"run": "r1"})
        saved = self.saved_deltas(tmp_path / "adapter")
        assert all(path.is_file() for path in written)
        assert sorted(saved) == sorted(self.adapted)
        assert all(_near(saved[name], delta, 1e-5) for name, delta in trained.adapter.deltas())

    def test_saving_twice_gives_the_same_bytes(self, trained: Bench, tmp_path: Path) -> None:
        metadata = {f"key{i}": str(i) for i in range(8)}
        first, second = (trained.adapter.save(tmp_path / name, metadata=metadata) for name in ("one", "two"))
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]

    def test_while_it_is_disabled_the_decoder_is_as_it_was_before(self, trained: Bench) -> None:
        with trained.adapter.disabled():
            assert trained.run(trained.decoder).equal(trained.output)

    @pytest.mark.parametrize("fails", [False, True])
    def test_nothing_is_left_of_having_been_disabled(self, trained: Bench, fails: bool) -> None:
        output, state = trained.run(trained.decoder), _state(trained.decoder)
        with contextlib.suppress(RuntimeError), trained.adapter.disabled():
            if fails:
                raise RuntimeError("while it was disabled")
        assert _state(trained.decoder) == state
        assert trained.run(trained.decoder).equal(output)
        trained.train()
        assert not trained.run(trained.decoder).equal(output)

    def test_a_bf16_decoder_trains_a_float32_adapter(self, make: Callable[..., Bench]) -> None:
        import torch

        bench = make("bfloat16")
        with torch.autocast("cpu", torch.bfloat16):
            bench.train()
        weights = dict(bench.adapter.parameters())
        assert {str(weight.dtype) for weight in weights.values()} == {"torch.float32"}
        assert all(weight.isfinite().all() for weight in weights.values())


def _state(decoder: nn.Module) -> list[tuple[object, ...]]:
    """Return which modules and weights a decoder has, where, and in which modes."""
    modules = [(name, id(module), module.training) for name, module in decoder.named_modules()]
    return [*modules, *((name, id(weight), weight.requires_grad) for name, weight in decoder.named_parameters())]


def _forward(condition_size: int) -> Callable[[nn.Module], Tensor]:
    """Return a function that runs a decoder on inputs that never change."""
    import torch

    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 40, 64, generator=generator)
    conditioning = torch.randn(2, 6, condition_size, generator=generator)
    t = torch.tensor([0.3, 0.8])

    def run(decoder: nn.Module) -> Tensor:
        dtype = next(decoder.parameters()).dtype
        return decoder(noisy.to(dtype), t.to(dtype), conditioning.to(dtype))  # type: ignore[no-any-return]

    return run


def _merged(decoder: nn.Module, deltas: Mapping[str, Tensor]) -> nn.Module:
    """Add weight differences to a decoder's own weights, below whatever an untrained adapter put around them."""
    from sidestep_core.model.names import module_path

    for name, delta in deltas.items():
        layer: Any = decoder.get_submodule(f"transformer.{module_path(name)}")
        layer.weight.data.add_(delta)
    return decoder


def _near(found: Tensor, expected: Tensor, relative: float) -> bool:
    return bool((found - expected).abs().max() <= relative * expected.abs().max())
