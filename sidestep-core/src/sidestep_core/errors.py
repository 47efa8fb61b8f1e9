"""The errors a user can cause: what is wrong, where, and what to do. The CLI prints them without a traceback."""

from __future__ import annotations

from typing import ClassVar, Literal

ProviderFailure = Literal[
    "key", "quota", "rate", "unreachable", "refused", "too large", "no audio", "not found", "bad answer", "memory"
]


class SidestepError(Exception):
    """Base of every error that is reported as one clear message instead of a traceback."""

    exit_code: ClassVar[int] = 2


class ConfigError(SidestepError):
    """Settings that cannot be used; one line for each thing wrong with them."""


class UnknownName(SidestepError, LookupError):
    """No component, command or preset has the name."""


class AmbiguousName(SidestepError, LookupError):
    """Several plugins offer the name and none of them has precedence."""


class LoadError(SidestepError):
    """A component is registered but cannot be imported or built."""


class CheckpointError(SidestepError):
    """A model folder is missing, incomplete or not what it says it is."""


class AudioError(SidestepError):
    """One audio file cannot be used; the message is the reason shown in the table of rejects."""


class DatasetError(SidestepError):
    """A folder of songs, a sidecar or a dataset file cannot be used."""


class StoreError(SidestepError):
    """A tensor folder is missing, empty or damaged."""


class AdapterError(SidestepError):
    """An adapter folder or file cannot be used, or a plan matches no module."""


class ResumeError(SidestepError):
    """A training checkpoint is missing, incomplete or does not fit the run."""


class GenerationError(SidestepError):
    """No audio can be generated: what came out is not finite."""


class ExportError(SidestepError):
    """An export target cannot hold this adapter."""


class OutOfMemory(SidestepError):
    """A run found too little memory; what it had saved is complete."""


class ProviderError(SidestepError):
    """A provider could not describe a song.

    Attributes:
        kind: "rate" and "unreachable" may pass and are tried again; "key" and "quota" end the batch; the others are
            of this song alone: "refused" by the service, "too large", "no audio" (it could not hear), "not found",
            "bad answer", "memory".
        retry_after: seconds the service asked to wait.
    """

    def __init__(self, message: str, *, kind: ProviderFailure, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class TrainingDiverged(SidestepError):
    """Training met non-finite numbers too often in a row and was stopped with its state saved."""

    exit_code = 3


class OtherProcessFailed(SidestepError):
    """Another process of the same run failed or is gone, and this one cannot go on without it."""

    exit_code = 1


class ProofError(SidestepError):
    """A written adapter does not read back as what was trained."""

    exit_code = 4


class Cancelled(SidestepError):
    """The user asked to stop; what was finished is kept."""

    exit_code = 130
