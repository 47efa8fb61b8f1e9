"""LoRA through peft: `scale * B @ A` beside each chosen projection of the frozen decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from sidestep_core.adapter_files import LowRank
from sidestep_core.adapter_writing import peft_files
from sidestep_core.errors import AdapterError
from sidestep_core.files import write_atomic
from sidestep_core.model.names import module_path
from sidestep_core.specs import BuildContext
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import LoraConfig

_NAME = "default"  # what peft calls the one adapter that it holds


class LoraAdapter:
    """A low-rank update, in float32 whatever the decoder's dtype."""

    def __init__(self, config: LoraConfig, context: BuildContext) -> None:
        self._config = config
        self._seed = context.seed
        self._layers: dict[str, Any] = {}  # original name -> peft's layer in the decoder

    def attach(self, decoder: nn.Module, targets: Sequence[Target]) -> None:
        """Put A and B beside exactly the targets, in place, and freeze everything else.

        A is drawn from the seed of the run, B is zero: nothing changes until the first step.

        Raises:
            AdapterError: the decoder has no such projection.
        """
        transformer = decoder.get_submodule("transformer")
        places = {target.name: module_path(target.name) for target in targets}
        present = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
        if absent := [name for name, place in places.items() if place not in present]:
            raise AdapterError(f"the decoder has no projection {absent[0]!r} to adapt")
        decoder.requires_grad_(False)
        # peft draws initial values from the global generator, which belongs to the training loop
        with torch.random.fork_rng(devices=[]):
            peft.inject_adapter_in_model(_peft_config(self._config, targets), transformer, _NAME)
        transformer.train(transformer.training)  # the new dropouts follow the decoder's mode
        self._layers = {name: transformer.get_submodule(place) for name, place in places.items()}
        self._initialise()

    def parameters(self) -> Sequence[tuple[str, nn.Parameter]]:
        """Return A [rank, in] and B [out, rank] of every target, in the order of the targets."""
        return [
            (f"{name}.{part}.weight", getattr(layer, part)[_NAME].weight)
            for name, layer in self._layers.items()
            for part in ("lora_A", "lora_B")
        ]

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return one optimizer group: A and B learn at the same rate."""
        return [{"params": [parameter for _, parameter in self.parameters()], "lr": learning_rate}]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights as they are trained: float32, scale not folded in; they share memory with the adapter."""
        return {name: parameter.detach() for name, parameter in self.parameters()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            AdapterError: names or shapes are not those of this adapter.
        """
        own = self.state_dict()
        if wrong := sorted(own.keys() ^ state.keys()):
            raise AdapterError(f"adapter state does not fit: {', '.join(map(repr, wrong[:3]))} on one side only")
        for name, weight in own.items():
            if weight.shape != state[name].shape:
                raise AdapterError(
                    f"adapter state does not fit: {name!r} is {tuple(weight.shape)} here "
                    f"and {tuple(state[name].shape)} there"
                )
            weight.copy_(state[name])

    def save(self, folder: Path, *, metadata: Mapping[str, str]) -> list[Path]:
        """Write a PEFT folder in the original names, scale folded into B; make the folder if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        files = peft_files(list(self._modules()), metadata)
        for name, content in files.items():
            write_atomic(folder / name, content)
        return [folder / name for name in files]

    def deltas(self) -> Iterator[tuple[str, Tensor]]:
        """Yield `(module name, [out, in] float32 weight difference)` of every target."""
        return ((module.name, module.delta()) for module in self._modules())

    def _modules(self) -> Iterator[LowRank]:
        for name, layer in self._layers.items():
            yield LowRank(
                name=name,
                down=layer.lora_A[_NAME].weight.detach(),
                up=layer.lora_B[_NAME].weight.detach(),
                scale=layer.scaling[_NAME],
            )

    def _initialise(self) -> None:
        generator = torch.Generator().manual_seed(self._seed)
        for layer in self._layers.values():
            for factors in (layer.lora_A, layer.lora_B):
                factors.float()  # peft made them in the decoder's dtype
            weight = layer.lora_A[_NAME].weight
            start = torch.empty(weight.shape)  # drawn on the CPU, so that every device starts alike
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            weight.data.copy_(start)


def _peft_config(config: LoraConfig, targets: Sequence[Target]) -> peft.LoraConfig:
    """Name every target in full, so that a bare `q_proj` cannot match what was not chosen."""
    places = {module_path(target.name): target for target in targets}
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(places),
        rank_pattern={place: target.rank for place, target in places.items() if target.rank is not None},
        alpha_pattern={place: target.alpha for place, target in places.items() if target.alpha is not None},
    )
