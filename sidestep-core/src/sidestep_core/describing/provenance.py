"""Where the values of a sidecar come from: a small JSON file beside it, and who may overwrite whom.

`<stem>.sources.json` has an entry for each field that a program wrote. A field whose text in the sidecar is no longer
what was written is the user's, as is every field without an entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from sidestep_core.describing.normalise import says_nothing
from sidestep_core.errors import DatasetError
from sidestep_core.files import hash_text, write_atomic
from sidestep_core.interfaces import Confidence
from sidestep_core.sidecars import MergePolicy, Sidecar, overwrites, read_sidecar, sidecar_path, write_sidecar

SourceKind = Literal["measured", "provider", "guess"]
Owner = Literal["nobody", "guess", "provider", "measured", "user"]
_RANKS: Mapping[Owner, int] = {"nobody": 0, "guess": 1, "provider": 2, "measured": 3, "user": 4}
# longer values are known by their hash alone: they stand in the sidecar
_LONGEST_VALUE = 64


def _to_lines(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(lines)


@attrs.frozen(kw_only=True)
class Source:
    """Where the value of one field came from.

    Attributes:
        source: what gave it: a provider, an analyzer, a model.
        kind: "measured" from the audio, by a "provider", or only a "guess" of one.
        confidence: how sure the source was, None if it did not say.
        doubts: what a person should look at, one line each.
        written: hash of the text that was written; that of "" where the source was asked and left the field open.
        value: that text, "" for long ones.
        model: what answered, as the source calls it.
    """

    source: str = attrs.field(validator=attrs.validators.instance_of(str))
    kind: SourceKind = attrs.field(validator=attrs.validators.in_(("measured", "provider", "guess")))
    confidence: Confidence | None = attrs.field(
        default=None, validator=attrs.validators.in_((None, "high", "medium", "low"))
    )
    doubts: tuple[str, ...] = attrs.field(default=(), converter=_to_lines)
    written: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    value: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    model: str = attrs.field(default="", validator=attrs.validators.instance_of(str))


def sources_path(audio: Path) -> Path:
    """Return the file that says where the values in a song's sidecar come from, whether it is there or not."""
    return sidecar_path(audio).with_suffix(".sources.json")


def read_sources(audio: Path) -> dict[str, Source]:
    """Return where the fields of a song's sidecar come from, as far as that was recorded.

    Raises:
        DatasetError: the file is damaged.
    """
    path = sources_path(audio)
    try:
        return {field: Source(**entry) for field, entry in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: no record of sources; delete it, and all values count as yours") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error


def record(
    audio: Path,
    fields: Mapping[str, str],
    *,
    source: str,
    kind: SourceKind,
    confidence: Mapping[str, Confidence] | None = None,
    doubts: Mapping[str, tuple[str, ...]] | None = None,
    model: str = "",
) -> None:
    """Note where values that now stand in a song's sidecar come from; other fields keep their entries.

    Args:
        audio: the song.
        fields: what was written into the sidecar; "" for what the source was asked and left open.
        source: what gave it.
        kind: how it was found; a provider's word that it is not sure of itself ("low") is a guess.
        confidence: of fields whose source said how sure it was.
        doubts: of fields that a person should look at.
        model: what answered, as the source calls it.
    """
    sure = confidence or {}
    texts = attrs.asdict(Sidecar(**fields))
    new = {
        field: Source(
            source=source,
            kind="guess" if kind == "provider" and sure.get(field) == "low" else kind,
            confidence=sure.get(field),
            doubts=(doubts or {}).get(field, ()),
            written=hash_text(texts[field]),
            value=texts[field] if len(texts[field]) <= _LONGEST_VALUE else "",
            model=model,
        )
        for field in fields
    }
    entries = {field: _entry(made) for field, made in {**read_sources(audio), **new}.items()}
    write_atomic(sources_path(audio), json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def owner(field: str, text: str, sources: Mapping[str, Source]) -> Owner:
    """Return whose a field is: what gave it, the user if it was changed since or never recorded, nobody's if empty."""
    if says_nothing(text):
        return "nobody"
    known = sources.get(field)
    return known.kind if known is not None and known.written == hash_text(text) else "user"


def may_overwrite(
    field: str, text: str, sources: Mapping[str, Source], *, kind: SourceKind, overwrite: bool = False
) -> bool:
    """Tell whether a new value may take the place of what a sidecar says.

    What was found in a better way takes the place of what was not: a measurement that of a provider's word, that of a
    guess, and never the other way round. What a user wrote, or what was found in the same way, gives way only to
    `overwrite`.

    Args:
        field: name of the field.
        text: what the sidecar says now.
        sources: what `read_sources` gave.
        kind: how the new value was found.
        overwrite: the policy is to overwrite this field.
    """
    now = owner(field, text, sources)
    if now == "user":
        return overwrite
    return _RANKS[kind] > _RANKS[now] or (overwrite and now == kind)


def write_fields(
    audio: Path,
    fields: Mapping[str, str],
    *,
    source: str,
    kind: SourceKind,
    policy: MergePolicy = "fill_missing",
    confidence: Mapping[str, Confidence] | None = None,
    doubts: Mapping[str, tuple[str, ...]] | None = None,
    model: str = "",
) -> dict[str, str]:
    """Put values into a song's sidecar as it is by now, as far as they may, and note where they come from.

    Args:
        audio: the song.
        fields: new values; "" for what was looked for and not found, which is noted where the sidecar is empty, too.
        source: what gave them.
        kind: how they were found.
        policy: which fields may be overwritten though they say something.
        confidence: of fields whose source said how sure it was.
        doubts: of fields that a person should look at.
        model: what answered, as the source calls it.

    Returns:
        What was changed in the sidecar; it is not written where that is nothing.

    Raises:
        DatasetError: the sidecar or its record of sources cannot be read.
    """
    known, sources = read_sidecar(audio) or Sidecar(), read_sources(audio)
    held, new = attrs.asdict(known), attrs.asdict(Sidecar(**fields))
    changes = {
        field: new[field]
        for field in fields
        if new[field]
        and new[field] != held[field]
        and may_overwrite(field, held[field], sources, kind=kind, overwrite=overwrites(policy, field))
    }
    if changes:
        # a crash between the two leaves values that count as the user's, which loses nothing
        write_sidecar(audio, attrs.evolve(known, **changes))
    if noted := {**changes, **{field: "" for field in fields if not new[field] and says_nothing(held[field])}}:
        record(audio, noted, source=source, kind=kind, confidence=confidence, doubts=doubts, model=model)
    return changes


def _entry(source: Source) -> dict[str, Any]:
    return {name: value for name, value in attrs.asdict(source).items() if value or name in ("source", "kind")}
