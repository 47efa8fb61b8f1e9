"""`lora`: a plain LoRA of any adapter, exact where its rank allows it, else the best approximation of a rank."""

from __future__ import annotations

import statistics

from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.principal import approximate
from sidestep_core.formats.updates import LowRank, Update
from sidestep_core.interfaces import ExportReport, ExportRequest
from sidestep_core.specs import BuildContext

from sidestep_exporters.configs import EVERYTHING, LoraExportConfig
from sidestep_exporters.frame import Made, export
from sidestep_exporters.layouts import counted, header, loss_metadata
from sidestep_exporters.native import READER, read_with_peft
from sidestep_exporters.proof import prove
from sidestep_exporters.source import Intended, Source


class LoraExporter:
    """Writes a PEFT folder and lets peft read it back."""

    name, accepts, instead, beside = "lora", EVERYTHING, "", False

    def __init__(self, config: LoraExportConfig, context: BuildContext) -> None:
        self._rank = config.rank

    def export(self, request: ExportRequest) -> ExportReport:
        """Write `<adapter>-lora`, or the folder that was asked for.

        Raises:
            AdapterError: the adapter's files are damaged, or it does not fit the model.
            ExportError: the adapter depends on the model's weights and no model is known.
            ProofError: it does not read back as the approximation; no file is left.
        """
        return export(self, request)

    def file(self, source: Source, adapter: str) -> str:
        """Return that a folder is written."""
        source.check_linear(self.name)
        return ""

    def make(self, source: Source, file: str) -> Made:
        """Return the folder of the approximations."""
        found = {name: low_rank(source, name, self.name, self._rank) for name in source.parts}
        updates = {name: update for name, (update, _) in found.items()}
        losses = {name: loss for name, (_, loss) in found.items()}
        dtypes = {name: source.dtype or source.update(name).dtype for name in source.parts}
        written = [update.folded(dtypes[name]) for name, update in updates.items()]
        kinds = ", ".join(sorted(source.saved.kinds()))
        ranks = counted(str(update.rank) for update in written)
        own = {"adapter_type": "lora", "made_from": kinds, "rank": ranks, "alpha": ranks}
        metadata = {**header(source, self.name, written), **own, **loss_metadata(losses)}

        def intended(name: str) -> Intended:
            return Intended(updates[name], dtypes[name])

        return Made(
            files=peft_files(written, metadata),
            prove=lambda folder: prove(source, intended, READER, lambda: read_with_peft(source, folder)),
            reader=READER,
            losses=losses,
            notes=(loss_note(losses, self._rank),),
        )


def low_rank(source: Source, name: str, target: str, rank: int) -> tuple[LowRank, float]:
    """Return a module's update as LoRA of at most a rank, and its relative error.

    Raises:
        ExportError: it depends on the model's weights and no model is known.
    """
    update: Update = source.update(name)
    if isinstance(update, LowRank) and update.rank <= rank:
        return update, 0.0
    weight = source.model(target).weight(name) if update.needs_weight else None
    return approximate(name, update.delta(weight).float(), rank)


def loss_note(losses: dict[str, float], rank: int) -> str:
    """Return how much an approximation leaves out, in words."""
    worst = max(losses, key=lambda name: losses[name])
    if losses[worst] == 0:
        return f"exact: no module has a rank above {rank}"
    return (
        f"approximated with rank {rank}: {statistics.fmean(losses.values()):.1%} of an update is missing on average, "
        f"{losses[worst]:.1%} at most ({worst})"
    )
