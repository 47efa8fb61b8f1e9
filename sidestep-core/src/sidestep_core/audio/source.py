"""What a decoder hands over: the shape of a file and its samples, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

BLOCK = 1 << 16  # frames read at a time


class UnsupportedFile(Exception):
    """This decoder cannot read the file reliably; another one may."""


@attrs.frozen(kw_only=True)
class Source:
    """An open audio file.

    Attributes:
        rate: frames a second.
        channels: channels of each frame.
        frames: length that the file itself promises; None when it says nothing that can be relied on.
        vorbis_order: whether surround channels come in Vorbis' order instead of WAV's.
        blocks: the samples in order, float32 [frames, channels], full scale 1.
    """

    rate: int
    channels: int
    frames: int | None
    vorbis_order: bool
    blocks: Iterator[Samples]
