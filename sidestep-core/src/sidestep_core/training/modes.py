"""Using the model of a run without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off everywhere, and exactly the modules that had it on back on afterwards.

    Compiled layers are computed as they are written: another compilation would take longer than this is in use.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for part in training:
            part.training = True
