"""What has to be asked of whom, before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from sidestep_core.dataset import find_audio
from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.normalise import says_nothing
from sidestep_core.describing.provenance import Source, may_overwrite, read_sources
from sidestep_core.errors import ConfigError, DatasetError
from sidestep_core.files import hash_text
from sidestep_core.sidecars import MergePolicy, Sidecar, overwrites, read_sidecar, sidecar_path

# what a complete description has; the others are asked for along with them
DESCRIPTION = frozenset({"caption", "genre", "bpm", "key", "signature"})
ALONG = frozenset({"language", "is_instrumental"})
METADATA = (DESCRIPTION - {"caption"}) | ALONG
LYRICS = frozenset({"lyrics"}) | ALONG
_NOTHING = hash_text("")


@attrs.frozen(kw_only=True)
class Stage:
    """One provider's turn: every song goes through it before the next one begins.

    Attributes:
        name: what the provider is called.
        fields: what it is asked for at most.
    """

    name: str
    fields: frozenset[str]


@attrs.frozen(kw_only=True)
class SongPlan:
    """What is wanted of one song.

    Attributes:
        path: the audio file.
        name: its path below the folder.
        asked: by provider, the fields it is asked for; those of a later one shrink by what earlier ones find.
        problem: why it cannot be described, "" if it can.
    """

    path: Path
    name: str
    asked: Mapping[str, frozenset[str]] = attrs.field(factory=dict, hash=False)
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing has to be asked."""
        return not self.asked and not self.problem


def audio_dir(config: CaptionsConfig) -> Path:
    """Return the folder of songs; raise `ConfigError` where none is named."""
    if config.audio_dir is None:
        raise ConfigError("no songs: give --audio-dir, a folder")
    return config.audio_dir


def plan_songs(root: Path, stages: Sequence[Stage], policy: MergePolicy) -> list[SongPlan]:
    """Return what is wanted of each song of a folder; of songs that share a sidecar the first stands for all.

    Raises:
        DatasetError: the folder is missing or holds no audio.
    """
    songs = list({sidecar_path(audio): audio for audio in reversed(find_audio(root))}.values())[::-1]
    if not songs:
        raise DatasetError(f"no audio in '{root}'")
    return [_plan_song(audio, audio.relative_to(root).as_posix(), stages, policy) for audio in songs]


def wanted_fields(sidecar: Sidecar, sources: Mapping[str, Source], stage: Stage, policy: MergePolicy) -> frozenset[str]:
    """Return what a provider is asked about a song: what is missing or to be overwritten, and it has not left open."""
    fields = frozenset(field for field in stage.fields if _is_wanted(field, sidecar, sources, stage.name, policy))
    if sidecar.is_instrumental.lower() in ("true", "yes", "1") and not overwrites(policy, "lyrics"):
        fields -= {"lyrics", "language"}
    return fields if fields - ALONG else frozenset()


def _plan_song(audio: Path, name: str, stages: Sequence[Stage], policy: MergePolicy) -> SongPlan:
    try:
        sidecar, sources = read_sidecar(audio) or Sidecar(), read_sources(audio)
    except DatasetError as error:
        return SongPlan(path=audio, name=name, problem=str(error))
    return SongPlan(path=audio, name=name, asked=dict(_asked(sidecar, sources, stages, policy)))


def _asked(
    sidecar: Sidecar, sources: Mapping[str, Source], stages: Sequence[Stage], policy: MergePolicy
) -> Iterator[tuple[str, frozenset[str]]]:
    found: frozenset[str] = frozenset()
    for stage in stages:
        wanted = wanted_fields(sidecar, sources, stage, policy) - found
        if wanted - ALONG:
            yield stage.name, wanted
            found |= wanted


def _is_wanted(field: str, sidecar: Sidecar, sources: Mapping[str, Source], provider: str, policy: MergePolicy) -> bool:
    text = getattr(sidecar, field)
    if not says_nothing(text) or overwrites(policy, field):
        return overwrites(policy, field) and may_overwrite(field, text, sources, kind="provider", overwrite=True)
    asked = sources.get(field)
    return asked is None or asked.source != provider or asked.written != _NOTHING
