"""Pytest fixtures for the packages and for third-party plugins: `pytest -p sidestep_core.testing.fixtures`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidestep_core.settings import DATA_VARIABLE

MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _own_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the runs of tests out of the user's history."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_VARIABLE, str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_keyring() -> Iterator[None]:
    """Keep tests away from the keys in the user's keyring."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        yield


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Return a function that writes a tiny checkpoint folder; it takes the arguments of `write_tiny`."""

    def make(**arguments: object) -> Path:
        from sidestep_core.model.tiny import write_tiny

        out = tmp_path_factory.mktemp("checkpoint")
        write_tiny(out, **arguments)  # type: ignore[arg-type]
        return out

    return make


@pytest.fixture(scope="session")
def _tiny_pair(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    diffusers = tmp_path_factory.mktemp("diffusers") / "tiny-base"
    return make_checkpoint(diffusers=diffusers), diffusers


@pytest.fixture(scope="session")
def tiny_checkpoint(_tiny_pair: tuple[Path, Path]) -> Path:
    """A checkpoint folder with acestep-v15-base, vae and Qwen3-Embedding-0.6B; read only, shared by all tests."""
    return _tiny_pair[0]


@pytest.fixture(scope="session")
def tiny_diffusers(_tiny_pair: tuple[Path, Path]) -> Path:
    """The same model as `tiny_checkpoint`, as a folder that diffusers' pipeline reads."""
    return _tiny_pair[1]
