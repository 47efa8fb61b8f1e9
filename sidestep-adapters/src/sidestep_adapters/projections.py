"""What all adapter types share: where they sit, their parameters and state, how they are saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from sidestep_core.errors import AdapterError
from sidestep_core.files import write_atomic
from sidestep_core.model.names import module_path
from sidestep_core.specs import BuildContext
from sidestep_core.targets import Target
from torch import Tensor, nn

ConfigT = TypeVar("ConfigT")


class ProjectionAdapter(Generic[ConfigT]):
    """An adapter of chosen projections, in float32 whatever the decoder's dtype; the types are subclasses.

    A layer is the module that a type puts in place of a projection. It holds the frozen projection, and its `weight`
    is that projection's.
    """

    def __init__(self, config: ConfigT, context: BuildContext) -> None:
        self.config = config
        self._seed = context.seed
        self._layers: dict[str, Any] = {}  # by original name
        self._transformer = nn.Module()

    # What a type says

    def check(self, targets: Sequence[Target]) -> None:
        """Raise `AdapterError` if this type cannot sit on such targets."""

    def wrap(self, linear: nn.Linear, target: Target) -> nn.Module:
        """Return a layer around a frozen projection; draw from the CPU's generator, which the run's seed has set."""
        raise NotImplementedError

    def tensors(self, layer: Any) -> Mapping[str, Tensor]:
        """Return the adapter's tensors in a layer by name: parameters, and constants that they mean nothing without."""
        raise NotImplementedError

    def rate(self, name: str) -> float:
        """Return the learning rate of a parameter (as `tensors` names it) as a multiple of the run's."""
        return 1.0

    def delta(self, layer: Any) -> Tensor:
        """Return the weight difference [out, in] in float32."""
        raise NotImplementedError

    def files(self, layers: Mapping[str, Any], metadata: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return the files that other programs load, by name; `layers` is by original name."""
        raise NotImplementedError

    # What follows from it

    def frozen(self, layer: Any) -> Tensor:
        """Return the frozen weight [out, in] in float32, beside the adapter's own tensors: it may wait elsewhere."""
        own = next(iter(self.tensors(layer).values()))
        weight: Tensor = layer.weight
        return weight.to(own.device, torch.float32)

    def attach(self, decoder: nn.Module, targets: Sequence[Target]) -> None:
        """Replace exactly the targets by layers around them, in place, and freeze everything else.

        The start follows from the seed of the run; nothing changes until the first step.

        Raises:
            AdapterError: the decoder has no such projection, or the type does not fit it.
        """
        transformer = decoder.get_submodule("transformer")
        present = {name: module for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
        if absent := [target.name for target in targets if module_path(target.name) not in present]:
            raise AdapterError(f"the decoder has no projection {absent[0]!r} to adapt")
        self.check(targets)
        decoder.requires_grad_(False)
        # libraries draw from the global generator, which belongs to the training loop
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)
            for target in targets:
                linear = present[module_path(target.name)]
                layer = self.wrap(linear, target)
                self._layers[target.name] = layer.train(linear.training).to(linear.weight.device)
        self._transformer = transformer
        self._place(self._layers)

    def parameters(self) -> Sequence[tuple[str, nn.Parameter]]:
        """Return what is trained, in the order of the targets."""
        return [(name, tensor) for name, tensor in self._tensors() if isinstance(tensor, nn.Parameter)]

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return one optimizer group for each learning rate."""
        groups: dict[float, list[nn.Parameter]] = {}
        for layer in self._layers.values():
            for name, tensor in self.tensors(layer).items():
                if isinstance(tensor, nn.Parameter):
                    groups.setdefault(self.rate(name), []).append(tensor)
        return [{"params": parameters, "lr": learning_rate * rate} for rate, parameters in groups.items()]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights as they are trained: float32, scale not folded in; they share memory with the adapter."""
        return {name: tensor.detach() for name, tensor in self._tensors()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            AdapterError: names or shapes are not those of this adapter.
        """
        own = self.state_dict()
        if wrong := sorted(own.keys() ^ state.keys()):
            raise AdapterError(f"adapter state does not fit: {', '.join(map(repr, wrong[:3]))} on one side only")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise AdapterError(
                    f"adapter state does not fit: {name!r} is {tuple(tensor.shape)} here "
                    f"and {tuple(state[name].shape)} there"
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def save(self, folder: Path, *, metadata: Mapping[str, str]) -> list[Path]:
        """Write the files that other programs load, in the original names; make the folder if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        files = self.files(self._layers, metadata)
        for name, content in files.items():
            write_atomic(folder / name, content)
        return [folder / name for name in files]

    def deltas(self) -> Iterator[tuple[str, Tensor]]:
        """Yield `(module name, [out, in] float32 weight difference)` of every target."""
        for name, layer in self._layers.items():
            with torch.no_grad():
                delta = self.delta(layer)
            yield name, delta

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Put the projections back in place of the layers for as long as it lasts."""
        self._place({name: layer.base_layer for name, layer in self._layers.items()})
        try:
            yield
        finally:
            self._place(self._layers)

    def _place(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            self._transformer.set_submodule(module_path(name), module)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, layer in self._layers.items():
            for part, tensor in self.tensors(layer).items():
                yield f"{name}.{part}", tensor


class Layer(nn.Module):
    """A frozen projection with something of ours beside it."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer

    @property
    def weight(self) -> Tensor:
        """The frozen weight [out, in]."""
        return self.base_layer.weight

    def product(self, x: Tensor) -> Tensor:
        """Return `W x`, what the projection gives before its bias."""
        product: Tensor = self.base_layer(x) if self.base_layer.bias is None else F.linear(x, self.weight)
        return product

    def biased(self, output: Tensor) -> Tensor:
        """Add the projection's bias if it has one; ACE-Step's have none."""
        return output if self.base_layer.bias is None else output + self.base_layer.bias


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a product with `x` is computed: autocast's where it is on, else that of `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
