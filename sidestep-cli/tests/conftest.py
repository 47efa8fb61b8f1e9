"""Running the command line in this process, with home, width and environment fixed."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from sidestep_cli.main import run
from sidestep_cli.session import Session
from sidestep_core.toolkit import Toolkit


@attrs.frozen
class Result:
    """How one call of the command line ended."""

    code: int
    out: str
    err: str


RunCli = Callable[..., Result]
HIDDEN = 64


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Return a function that runs `sidestep` with the given arguments, in `tmp_path` as working folder."""
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("SIDESTEP_DISABLE_PLUGINS", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*args: str | Path, toolkit: Toolkit | None = None, typed: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(arg) for arg in args], Session(toolkit))
        return Result(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def tensors(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """Return a tensor folder of three short songs that fits the tiny checkpoint."""
    import torch
    from sidestep_core.model.layout import identity, resolve_model
    from sidestep_core.store.index import StoredSong, TensorStore, conditioning_path, latents_path, write_index
    from sidestep_core.store.tensors import Latents, write_conditioning, write_latents

    path = tmp_path_factory.mktemp("tensors")
    generator = torch.Generator().manual_seed(0)
    songs = []
    for number, frames in enumerate((25, 40, 33)):
        key = f"{number:032x}"
        for file in (latents_path(path, key), conditioning_path(path, key)):
            file.parent.mkdir(exist_ok=True)
        write_latents(latents_path(path, key), Latents(torch.randn(frames, 64, generator=generator)), {})
        write_conditioning(conditioning_path(path, key), torch.randn(9, HIDDEN, generator=generator), {})
        songs.append(
            StoredSong(
                name=f"{number}.wav", frames=frames, rows=9, seconds=frames / 25, latents_key=key, conditioning_key=key
            )
        )
    model = resolve_model(tiny_checkpoint, "base")
    write_index(
        TensorStore(
            path=path,
            model=identity(model),
            variant="base",
            conditioning="inference",
            latent="sample",
            dtype="fp32",
            songs=tuple(songs),
        )
    )
    return path
