"""Two channels out of any number, the way a mixing engineer folds down a surround mix.

Mono goes to both sides. Up to eight channels are taken for the surround layout of that many channels in WAV and FLAC
(or in Ogg, which orders them differently) and folded as ITU-R BS.775 says: centre, side and rear channels 3 dB lower
into the side they belong to, the effects channel left out. More than eight have no usual layout: the first two count.
"""

from __future__ import annotations

import numpy as np

from sidestep_core.audio.source import Samples

_MINUS_3DB = 0.5**0.5
_GAINS = {  # speaker: share in the left, share in the right channel
    "L": (1.0, 0.0),
    "R": (0.0, 1.0),
    "C": (_MINUS_3DB, _MINUS_3DB),
    "LFE": (0.0, 0.0),
    "Ls": (_MINUS_3DB, 0.0),
    "Rs": (0.0, _MINUS_3DB),
    "Lb": (_MINUS_3DB, 0.0),
    "Rb": (0.0, _MINUS_3DB),
    "Cb": (0.5, 0.5),
}
_WAVE_ORDER = {
    3: "L R C",
    4: "L R Lb Rb",
    5: "L R C Lb Rb",
    6: "L R C LFE Lb Rb",
    7: "L R C LFE Cb Ls Rs",
    8: "L R C LFE Lb Rb Ls Rs",
}
_VORBIS_ORDER = {
    3: "L C R",
    4: "L R Lb Rb",
    5: "L C R Lb Rb",
    6: "L C R Lb Rb LFE",
    7: "L C R Ls Rs Cb LFE",
    8: "L C R Ls Rs Lb Rb LFE",
}


def stereo_matrix(channels: int, *, vorbis_order: bool = False) -> Samples:
    """Return the matrix [channels, 2] that a block [frames, channels] is multiplied with."""
    if channels == 1:
        return np.ones((1, 2), dtype=np.float32)
    order = (_VORBIS_ORDER if vorbis_order else _WAVE_ORDER).get(channels)
    if order is None:  # stereo, or no layout that is known
        return np.eye(channels, 2, dtype=np.float32)
    return np.array([_GAINS[speaker] for speaker in order.split()], dtype=np.float32)
