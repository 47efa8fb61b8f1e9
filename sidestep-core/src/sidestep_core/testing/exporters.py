"""What every exporter must keep, and an adapter to export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidestep_core.errors import ExportError
from sidestep_core.interfaces import Exporter, ExportRequest
from sidestep_core.specs import Spec
from sidestep_core.testing.component import ComponentContract

LORA_RANKS = {"layers.0.self_attn.q_proj": 4, "layers.0.self_attn.o_proj": 4, "layers.10.mlp.up_proj": 2}


class ExporterContract(ComponentContract):
    """An exporter of low-rank adapters; override `folder` for one that takes another format."""

    kind = "exporter"

    @pytest.fixture
    def exporter(self, spec: Spec) -> Exporter:
        """The exporter, built."""
        return spec.build(self.config, self.context)  # type: ignore[no-any-return]

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A trained adapter's folder."""
        return write_lora(tmp_path / "final")

    def test_without_an_output_it_writes_beside_the_adapter(self, exporter: Exporter, folder: Path) -> None:
        paths = exporter.export(ExportRequest(adapter=folder)).paths
        assert paths
        assert all(path.exists() and folder.parent in path.parents and folder not in path.parents for path in paths)

    @pytest.mark.parametrize(("dtype", "tolerance"), [("keep", 1e-5), ("fp32", 1e-5), ("bf16", 1e-2), ("fp16", 1e-3)])
    def test_the_proof_matches_every_module(
        self, exporter: Exporter, folder: Path, dtype: str, tolerance: float
    ) -> None:
        report = exporter.export(ExportRequest(adapter=folder, dtype=dtype))
        assert report.modules == len(LORA_RANKS)
        assert report.error is not None
        assert report.error <= tolerance
        assert report.reader

    def test_without_the_proof_the_same_is_written(self, exporter: Exporter, folder: Path, tmp_path: Path) -> None:
        proven = exporter.export(ExportRequest(adapter=folder, output=tmp_path / "proven"))
        plain = exporter.export(ExportRequest(adapter=folder, output=tmp_path / "plain", verify=False))
        assert plain.error is None
        assert _contents(proven.paths) == _contents(plain.paths)

    def test_the_adapter_itself_stays_as_it_is(self, exporter: Exporter, folder: Path) -> None:
        before = _contents((folder,))
        exporter.export(ExportRequest(adapter=folder, dtype="bf16"))
        assert _contents((folder,)) == before

    def test_an_unknown_dtype_is_refused(self, exporter: Exporter, folder: Path) -> None:
        with pytest.raises(ExportError, match="int4"):
            exporter.export(ExportRequest(adapter=folder, dtype="int4"))


def write_lora(folder: Path, ranks: Mapping[str, int] = LORA_RANKS, *, seed: int = 0) -> Path:
    """Write a PEFT folder with random weights, [48, 32] projections and the given ranks; return it."""
    import torch

    from sidestep_core.formats.peft_files import peft_files
    from sidestep_core.formats.updates import LowRank

    generator = torch.Generator().manual_seed(seed)
    modules = [
        LowRank(
            name=name,
            down=torch.randn(rank, 32, generator=generator),
            up=torch.randn(48, rank, generator=generator),
            scale=0.3,
        )
        for name, rank in ranks.items()
    ]
    folder.mkdir(parents=True)
    for name, content in peft_files(modules, {"run": "r1"}).items():
        (folder / name).write_bytes(content)
    return folder


def _contents(paths: tuple[Path, ...]) -> dict[str, bytes]:
    """Return what files hold, and all files of folders, by name."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {file.name: file.read_bytes() for file in files if file.is_file()}
