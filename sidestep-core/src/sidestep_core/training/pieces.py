"""What previews are made with: the conditioning of songs of the run, or of a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs
from torch import Tensor

from sidestep_core.configs import Conditioning
from sidestep_core.device import DTYPES, Resolved
from sidestep_core.files import is_audio
from sidestep_core.generation.conditioning import Texts, encode_prompt, make_texts
from sidestep_core.plan import TrainPlan
from sidestep_core.store.tensors import load_conditioning, read_metadata
from sidestep_core.training.sets import TrainSong


@attrs.frozen
class SongPiece:
    """A song of the run, read when it is needed."""

    song: TrainSong

    @property
    def name(self) -> str:
        """The song's name."""
        return self.song.name

    def conditioning(self) -> Tensor:
        """Read its conditioning."""
        return load_conditioning(self.song.store, self.song.stored)

    def facts(self) -> Mapping[str, str]:
        """Return its name, and its texts where the tensors have them."""
        store, stored = self.song.store, self.song.stored
        header = (read_metadata(store.conditioning_file(stored)) or {}) if store.kind == "safetensors" else {}
        return {"song": self.name, "prompt": header.get("prompt", stored.prompt), "lyrics": header.get("lyrics", "")}


@attrs.frozen(eq=False)
class PromptPiece:
    """A prompt whose conditioning is kept."""

    texts: Texts
    rows: Tensor
    name: str = "prompt"

    def conditioning(self) -> Tensor:
        """Return what was encoded."""
        return self.rows

    def facts(self) -> Mapping[str, str]:
        """Return its texts."""
        return {"prompt": self.texts.prompt, "lyrics": self.texts.lyrics}


Piece = SongPiece | PromptPiece


def make_pieces(plan: TrainPlan, device: str, precision: Resolved) -> dict[str, Piece]:
    """Return what previews are made with, by the name of its files; a prompt is encoded now.

    To be called before the model of the run takes its memory.

    Raises:
        CheckpointError: there is a prompt and an encoder cannot be loaded.
    """
    preview = plan.request.preview
    pieces: list[Piece] = [SongPiece(song) for song in plan.previewed]
    if preview.prompt:
        # tensors that do not say what they are were made by Side-Step
        like: Conditioning = "inference" if plan.stores[0].conditioning == "inference" else "side-step"
        texts = make_texts(preview, like)
        rows = encode_prompt(plan.model, texts, device=device, dtype=DTYPES[precision])
        pieces.append(PromptPiece(texts, rows))
    # a number in front: names that differ may be the same once they are fit for a file
    return {f"{number}_{_fit(piece.name)}": piece for number, piece in enumerate(pieces, 1)}


def _fit(name: str) -> str:
    stem = name.rpartition(".")[0] if is_audio(Path(name)) else name
    return re.sub(r"\W+", "_", stem).strip("_")[:60] or "song"
