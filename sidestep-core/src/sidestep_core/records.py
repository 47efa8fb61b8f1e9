"""Sidecars from what other programs write as key and value: JSON objects, rows of tables, tagged texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from sidestep_core.sidecars import ALIASES, Sidecar
from sidestep_core.songs import UNKNOWN_LANGUAGE, is_text

_FIELDS = frozenset(attrs.fields_dict(Sidecar)) - {"other", "comments"}
_NAMES = {
    **{name: name for name in _FIELDS},
    **ALIASES,
    **{"genres": "genre", "vocal_language": "language", "instrumental": "is_instrumental", "raw_lyrics": "lyrics"},
}
# about the file and the list it stands in, not about the music
_BOOKKEEPING = frozenset({"id", "audio_path", "filename", "file_name", "file", "path", "labeled", "num_samples"})
_LISTS = frozenset({"genre", "tags", "custom_tag"})


def sidecar_of(values: Mapping[str, Any]) -> tuple[Sidecar, list[str]]:
    """Return a sidecar of values under any of their usual names, and what is wrong with some of them.

    The name that a sidecar uses comes first where several are given. A value under a name that is not known, or that
    differs from the one used, is kept among the sidecar's other lines.
    """
    fields: dict[str, str] = {}
    others: list[str] = []
    doubts: list[str] = []
    for key, value in _in_order(values):
        field = _NAMES.get(key.lower(), "")
        text = _to_text(value, field)
        if text is None:
            if field:
                doubts.append(f"{key} must be text or a number")
            text = json.dumps(value, ensure_ascii=True)
        elif field and field not in fields:
            fields[field] = text
            continue
        if text != fields.get(field):
            others.append(f"{' '.join(key.split())}: {text}")
    return Sidecar(**fields, other="\n".join(others)), doubts


def knows_any(values: Mapping[str, Any]) -> bool:
    """Tell whether any of the names is one that a sidecar has."""
    return any(isinstance(key, str) and key.lower() in _NAMES for key in values)


def _in_order(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what says something, the names that sidecars use first."""
    said = [
        (key, value)
        for key, value in values.items()
        if is_text(key) and key.lower() not in _BOOKKEEPING and not _says_nothing(key, value)
    ]
    yield from sorted(said, key=lambda item: item[0].lower() not in _FIELDS)


def _says_nothing(key: str, value: Any) -> bool:
    return value in (None, "", [], {}) or (key.lower() in ("language", "lang") and value == UNKNOWN_LANGUAGE)


def _to_text(value: Any, field: str) -> str | None:
    """Return a value as a sidecar has it; None for one that cannot be written there."""
    if isinstance(value, list) and field in _LISTS and all(map(is_text, value)):
        return ", ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # 85.0 is how some tools write 85
    if isinstance(value, int | float) or is_text(value):
        return str(value).strip()
    return None
