"""AdamW with 8-bit states from bitsandbytes, and plain AdamW where that cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sidestep_core.builtins.configs import WeightDecayConfig
from sidestep_core.builtins.optimizers.adamw import AdamW
from sidestep_core.specs import BuildContext

# bitsandbytes keeps smaller tensors in float32
SMALLEST = 4096


class AdamW8bit:
    """Makes AdamW with 8-bit states.

    Attributes:
        notices: why it is plain AdamW, if it is, once it was made.
    """

    def __init__(self, config: WeightDecayConfig, context: BuildContext) -> None:
        """Take the weight decay."""
        self._plain = AdamW(config, context)
        self.weight_decay = config.weight_decay
        self.notices: tuple[str, ...] = ()

    def create(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Return it over the groups, or AdamW if bitsandbytes is not there or has no kernel for their device."""
        own = [dict(group) for group in groups]
        try:
            optimizer = _working({parameter.device for group in own for parameter in group["params"]})
        except ImportError as error:
            return self._fall_back(own, f"{error}; pip install 'sidestep-core[bnb]'")
        except Exception as error:  # whatever another library's kernels and drivers come up with
            return self._fall_back(own, _first_line(error))
        return optimizer(own, weight_decay=self.weight_decay)

    def _fall_back(self, groups: list[dict[str, Any]], reason: str) -> torch.optim.Optimizer:
        self.notices = (f"adamw8bit cannot run here and adamw takes its place ({reason})",)
        return self._plain.create(groups)


def _working(devices: Iterable[torch.device]) -> Callable[..., torch.optim.Optimizer]:
    """Return the optimizer after a step with it on each device."""
    from sidestep_core.builtins.optimizers.eight_bit import FlatAdamW8bit

    for device in devices:
        parameter = nn.Parameter(torch.zeros(SMALLEST, device=device))
        parameter.grad = torch.zeros_like(parameter)
        FlatAdamW8bit([parameter]).step()
    return FlatAdamW8bit


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
