"""`native`: what ACE-Step 1.5's own application loads, a PEFT folder or a LyCORIS file in its own names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import peft
from sidestep_core.errors import ExportError
from sidestep_core.formats.keys import PEFT_PREFIX, lycoris_name
from sidestep_core.formats.peft_files import peft_files, peft_folder
from sidestep_core.formats.saved import WEIGHTS_NAME
from sidestep_core.formats.updates import Update
from sidestep_core.formats.weight_updates import Rotation
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.specs import BuildContext
from sidestep_core.tensor_files import tensor_bytes
from torch import nn

from sidestep_exporters.configs import INSTEAD, NATIVE
from sidestep_exporters.frame import Made, export
from sidestep_exporters.layouts import header, module_tensors
from sidestep_exporters.lycoris_host import READER as LYCORIS
from sidestep_exporters.lycoris_host import LycorisHost
from sidestep_exporters.peft_host import ADAPTER, PeftHost
from sidestep_exporters.proof import prove, skeleton
from sidestep_exporters.source import Source

READER = f"peft {peft.__version__} on the original names"
_DIFFUSERS_NOTE = "diffusers ignores original names without a q_proj or k_proj among them; export --target diffusers"


class NativeExporter:
    """Writes the folder and lets peft, or LyCORIS, read it back."""

    name, accepts, instead, beside = "native", NATIVE, INSTEAD, False

    def __init__(self, config: None, context: BuildContext) -> None:
        pass

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-native`, or the folder (of a LyCORIS adapter: or file) that was asked for.

        Raises:
            AdapterError: the adapter's files are damaged, or it does not fit the model.
            ExportError: it holds what neither library has.
            ProofError: it does not read back as trained; no file is left.
        """
        return export(self, request)

    def file(self, source: Source, adapter: str) -> str:
        """Return the name of a LyCORIS adapter's one file."""
        kind = source.one_kind(self.name)
        return f"{kind}_weights.safetensors" if kind in ("lokr", "loha") else ""

    def make(self, source: Source, file: str) -> Made:
        """Return the files of the library that has this kind of adapter."""
        updates = [source.update(name).folded(source.dtype) for name in source.parts]
        metadata = header(source, self.name, updates)
        if file:
            return _for_lycoris(source, updates, metadata, file)
        if isinstance(updates[0], Rotation):
            return made_for_peft(source, _oft_files(updates, metadata))
        names = source.parts
        seen = any(part in name for name in names for part in ("q_proj", "k_proj"))
        return made_for_peft(source, peft_files(updates, metadata), notes=() if seen else (_DIFFUSERS_NOTE,))


def made_for_peft(source: Source, files: dict[str, bytes], notes: tuple[str, ...] = ()) -> Made:
    """Return a PEFT folder that peft reads back."""
    return Made(
        files=files,
        prove=lambda folder: prove(source, source.intended, READER, lambda: read_with_peft(source, folder)),
        reader=READER,
        notes=notes,
    )


def read_with_peft(source: Source, folder: Path) -> PeftHost:
    """Let `PeftModel.from_pretrained` read a folder on a decoder's module tree."""
    tree = skeleton(nn.Module(), source.tree())
    model = peft.PeftModel.from_pretrained(tree, str(folder), ADAPTER, low_cpu_mem_usage=True, torch_device="cpu")
    return PeftHost(model, folder / WEIGHTS_NAME)


def _oft_files(updates: Sequence[Update], metadata: dict[str, str]) -> dict[str, bytes]:
    """Return a PEFT folder of rotations; what bounds COFT sets is already kept in the numbers."""
    rotations = [update for update in updates if isinstance(update, Rotation)]
    forms = {(rotation.block_size, rotation.terms) for rotation in rotations}
    if len(forms) > 1:
        raise ExportError(f"PEFT has one block size for all modules, here are {len(forms)}; {INSTEAD}")
    size, terms = forms.pop()
    settings = {
        "peft_version": peft.__version__,
        "r": 0,
        "oft_block_size": size,
        "target_modules": [rotation.name for rotation in rotations],
        "coft": False,
        "block_share": False,
        "use_cayley_neumann": terms is not None,
        **({} if terms is None else {"num_cayley_neumann_terms": terms}),
    }
    tensors = {f"{PEFT_PREFIX}{rotation.name}.oft_R.weight": rotation.generators for rotation in rotations}
    return peft_folder("OFT", settings, tensors, metadata)


def _for_lycoris(source: Source, updates: Sequence[Update], metadata: dict[str, str], file: str) -> Made:
    algorithm = updates[0].kind
    settings = source.saved.metadata.get(f"{algorithm}_config") or _settings(updates[0])
    own = {"algo": algorithm, "format": "lycoris", f"{algorithm}_config": settings}
    tensors = {
        f"{lycoris_name(update.name)}.{part}": tensor
        for update in updates
        for part, tensor in module_tensors(update).items()
    }

    def read(folder: Path) -> LycorisHost:
        return LycorisHost(skeleton(nn.Module(), source.tree()), folder / file)

    return Made(
        files={file: tensor_bytes(tensors, {**metadata, **own})},
        prove=lambda folder: prove(source, source.intended, LYCORIS, lambda: read(folder)),
        reader=LYCORIS,
    )


def _settings(update: Update) -> str:
    """Return settings by which ACE-Step's application tells such a file, for one that says nothing itself."""
    tensors = module_tensors(update)
    alpha = float(tensors["alpha"])
    settings = {"linear_dim": update.rank or 1, "linear_alpha": alpha, "weight_decompose": "dora_scale" in tensors}
    return json.dumps(settings, sort_keys=True)
