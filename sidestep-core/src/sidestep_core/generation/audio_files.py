"""Files to listen to: FLAC, and JSON beside it that says what was asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sidestep_core.audio.constants import SAMPLE_RATE
from sidestep_core.files import write_atomic
from sidestep_core.generation.decoding import Audio


def write_audio(path: Path, audio: Audio, facts: Mapping[str, Any]) -> None:
    """Write audio [samples, 2] to a FLAC file and what is known of it to a JSON file of the same name.

    The level stays as the model makes it, so that files can be compared: what exceeds full scale is clipped, and
    `peak` in the JSON says how far it went.
    """
    content = io.BytesIO()
    soundfile.write(content, np.clip(audio, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    noted = {**facts, "peak": round(float(np.abs(audio).max()), 4)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content.getvalue())
    write_atomic(path.with_suffix(".json"), json.dumps(noted, indent=2, ensure_ascii=False) + "\n")


def is_audio_of(path: Path, facts: Mapping[str, Any]) -> bool:
    """Tell whether a file is there that was made with just these facts."""
    try:
        noted = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return False
    return path.is_file() and isinstance(noted, dict) and all(noted.get(key) == value for key, value in facts.items())
