"""Layers compiled by torch: slow to start with, faster from then on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch._dynamo.exc import TorchDynamoException

from sidestep_core.errors import ConfigError
from sidestep_core.model.decoder import Decoder


def compile_layers(decoder: Decoder) -> None:
    """Have every layer compiled when it is first used, with its adapter and for all lengths at once.

    Layer by layer, since most of them are alike and come from one compilation.
    """
    for layer in decoder.transformer.layers:
        layer.compile(dynamic=True)


@contextmanager
def naming_compiler() -> Iterator[None]:
    """Turn a failed compilation into one line.

    Raises:
        ConfigError: nothing can be compiled here.
    """
    try:
        yield
    except TorchDynamoException as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(f"the layers cannot be compiled here ({reason}); leave out --compile") from error
