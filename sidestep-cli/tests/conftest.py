"""Running the command line in this process, with home, width and environment fixed."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Never

import attrs
import pytest
from sidestep_cli.main import run
from sidestep_cli.session import Session
from sidestep_core.analysis.config import AnalyzeConfig
from sidestep_core.configs import DataConfig, ModelConfig, PreprocessConfig, RunConfig, TrainConfig
from sidestep_core.errors import ConfigError
from sidestep_core.events import Event, PreprocessFinished
from sidestep_core.requests import TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.toolkit import Toolkit, never


@attrs.frozen
class Result:
    """How one call of the command line ended."""

    code: int
    out: str
    err: str


RunCli = Callable[..., Result]
HIDDEN = 64


RunIn = Callable[..., Result]


def settle(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Fix home, width and environment, and make a folder the working folder."""
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("SIDESTEP_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("SIDESTEP_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("SIDESTEP_DISABLE_PLUGINS", raising=False)
    monkeypatch.chdir(folder)


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Return a function that runs `sidestep` with the given arguments, in `tmp_path` as working folder."""
    settle(monkeypatch, tmp_path)

    def call(*args: str | Path, toolkit: Toolkit | None = None, typed: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(arg) for arg in args], Session(toolkit))
        return Result(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def run_in() -> RunIn:
    """Return a function that runs `sidestep` in a folder, for results that several tests look at."""

    def call(folder: Path, *args: str | Path) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            settle(patch, folder)
            code = run([str(arg) for arg in args])
        return Result(code, out.getvalue(), err.getvalue())

    return call


class Noting(Toolkit):
    """A toolkit with everything installed that notes what it is asked for instead of doing it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(settings=Settings(folder / "none.toml"))
        self.requests: list[TrainRequest] = []
        self.tensors: list[tuple[PreprocessConfig, ModelConfig]] = []
        self.analyses: list[tuple[AnalyzeConfig, ModelConfig]] = []

    def plan(self, request: TrainRequest) -> Never:
        """Note a run."""
        self.requests.append(request)
        raise ConfigError("noted")

    def preprocess(
        self, config: PreprocessConfig, model: ModelConfig, *, cancelled: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """Note a set of tensors and report that it is there."""
        self.tensors.append((config, model))
        yield PreprocessFinished(written=1, kept=0, rejected=(), seconds=1.0, cut_lyrics=0, output=Path("noted"))

    def analyze(
        self, config: AnalyzeConfig, model: ModelConfig, *, cancelled: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """Note an analysis."""
        self.analyses.append((config, model))
        raise ConfigError("noted")


@pytest.fixture(scope="session")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Noting:
    return Noting(tmp_path_factory.mktemp("noting"))


@pytest.fixture
def noting(_installed: Noting) -> Noting:
    """Return a toolkit that notes what a command line asks for; nothing is noted yet."""
    _installed.requests.clear()
    _installed.tensors.clear()
    _installed.analyses.clear()
    return _installed


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts `sidestep` as a process of its own in `tmp_path`; what is left running is ended."""
    started: list[subprocess.Popen[str]] = []

    def begin(*args: str | Path, program: str = "", **variables: str) -> subprocess.Popen[str]:
        folders = {f"SIDESTEP_{kind.upper()}_DIR": str(tmp_path / kind) for kind in ("config", "data", "cache")}
        environment = {**os.environ, **folders, "COLUMNS": "100", **variables}
        how = ["-c", program] if program else ["-m", "sidestep_cli"]
        command = [sys.executable, *how, *map(str, args)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def run_folder(tensors: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of one step; read only."""
    folder = tmp_path_factory.mktemp("trained")
    toolkit = Toolkit(settings=Settings(folder / "settings.toml"))
    request = TrainRequest(
        model=ModelConfig(checkpoint_dir=tiny_checkpoint, device="cpu"),
        data=DataConfig(dataset_dir=(tensors,)),
        train=TrainConfig(max_steps=1),
        run=RunConfig(output_dir=folder / "run"),
    )
    for _ in toolkit.train(toolkit.plan(request)):
        pass
    return folder / "run"


@pytest.fixture(scope="session")
def adapter(run_folder: Path) -> Path:
    """Return the folder of a trained adapter; read only."""
    return run_folder / "final"


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
