"""The exponential average of the adapter's weights, and the weights a run gives away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from sidestep_core.errors import ResumeError


class Average:
    """The exponential average of parameters, on their device: average += (1 - decay) * (parameter - average).

    It starts at the parameters as they are, and the decay is the same at every step.

    Args:
        parameters: with their names.
        decay: share of the average that is kept at each step.
    """

    def __init__(self, parameters: Sequence[tuple[str, nn.Parameter]], decay: float) -> None:
        self._names = [name for name, _ in parameters]
        self._live: list[Tensor] = [parameter for _, parameter in parameters]
        self._weight = 1 - decay
        self.values = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters of a finished step."""
        torch._foreach_lerp_(self.values, self._live, self._weight)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew at the parameters as they are."""
        torch._foreach_copy_(self.values, self._live)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average of each parameter by its name."""
        return dict(zip(self._names, self.values, strict=True))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ResumeError: the names are not those of the parameters.
        """
        if wrong := sorted(state.keys() ^ set(self._names)):
            raise ResumeError(f"the averaged weights do not fit the adapter; {len(wrong)} differ, first {wrong[0]!r}")
        for name, value in zip(self._names, self.values, strict=True):
            value.copy_(state[name])


@contextmanager
def final_weights(
    parameters: Sequence[nn.Parameter], optimizer: AcceleratedOptimizer, average: Average | None
) -> Iterator[None]:
    """Give parameters the values that a run gives away, and exactly their own back afterwards.

    That is the average if there is one, else what the optimizer says: schedule-free ones train on other values than
    those to use.
    """
    live = [parameter.data for parameter in parameters]
    averages_itself = average is None and hasattr(optimizer.optimizer, "eval")
    if average is not None:
        _point(parameters, average.values)
    elif averages_itself:
        # a copy, because the way back would round
        _point(parameters, [data.clone() for data in live])
        optimizer.eval()
    try:
        yield
    finally:
        if averages_itself:
            optimizer.train()
        _point(parameters, live)


def _point(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value
