"""What plugins hand to the core: light descriptions of components. Importing this pulls in attrs and nothing else."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from sidestep_core.errors import LoadError, SidestepError

if TYPE_CHECKING:
    from sidestep_core.targets import Target

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*\Z")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
MAX_SUMMARY = 90


def check_name(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    """Refuse a component name that is awkward to type."""
    if not NAME.match(value):
        raise ValueError(f"name {value!r} must be lower-case words joined by underscores")


def check_summary(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    """Refuse a summary that does not fit a listing."""
    if not value or "\n" in value or len(value) > MAX_SUMMARY or value.endswith("."):
        raise ValueError(f"summary {value!r} must be one line, at most {MAX_SUMMARY} characters, with no full stop")


def check_target(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    """Refuse a target that cannot be imported by its form."""
    if not TARGET.match(value):
        raise ValueError(f"{attribute.name} {value!r} must read 'package.module:attribute'")


def check_config(spec: Spec, _: attrs.Attribute[type | None], value: type | None) -> None:
    """Refuse a config that no interface can show."""
    if value is not None and not attrs.has(value):
        raise TypeError(f"config of {spec.name!r} must be a class made with @config, not {value!r}")


@attrs.frozen(kw_only=True)
class BuildContext:
    """What a component may know when it is built: facts of the model and the run, no torch objects.

    Attributes:
        model: facts from the checkpoint's config.json (`sidestep_core.model.dims.ModelDims`), if there is one.
        variant: base, sft or turbo, or "" if not known.
        learning_rate: peak rate of the run.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of one epoch.
        seed: seed of the run.
        run: folder of the run, if there is one.
        device: where a component's own model runs: auto, cpu, cuda ...
    """

    model: Any = None
    variant: str = ""
    learning_rate: float = 0.0
    total_steps: int = 0
    steps_per_epoch: int = 0
    seed: int = 0
    run: Path | None = None
    device: str = "auto"


@attrs.frozen(kw_only=True)
class Spec:
    """What every registered component has: a name, one line of help, its settings and where it lives.

    Attributes:
        name: what the user types.
        summary: one line without a full stop, shown in listings.
        target: `package.module:attribute` of the implementation, imported on first use.
        config: class made with `@config`, or None when there is nothing to set.
        needs: distributions that must be installed.
        extra: what to install to get them (`sidestep-cli[bnb]`), for the hint.
    """

    kind: ClassVar[str]

    name: str = attrs.field(validator=check_name)
    summary: str = attrs.field(validator=check_summary)
    target: str = attrs.field(validator=check_target)
    config: type | None = attrs.field(default=None, validator=check_config)
    needs: tuple[str, ...] = ()
    extra: str = ""

    def missing(self) -> tuple[str, ...]:
        """Return the needed distributions that are not installed."""
        return tuple(name for name in self.needs if not _installed(name))

    def load(self) -> Callable[..., Any]:
        """Import and return the implementation: the first moment a heavy library may be imported.

        Raises:
            LoadError: a needed distribution is missing, or the import failed.
        """
        if absent := self.missing():
            hint = f"'{self.extra}'" if self.extra else " ".join(absent)
            raise LoadError(f"{self.kind} {self.name!r} needs {', '.join(absent)}: pip install {hint}")
        module, _, attribute = self.target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise LoadError(f"{self.kind} {self.name!r} cannot be loaded from {self.target}: {error}") from error
        return found  # type: ignore[no-any-return]

    def build(self, config: Any = None, context: BuildContext | None = None) -> Any:
        """Make the component from its config (the defaults when None) in a context.

        Raises:
            LoadError: it cannot be imported or its constructor failed.
        """
        factory = self.load()
        if config is None and self.config is not None:
            config = self.config()
        try:
            return factory(config, context or BuildContext())
        except SidestepError:
            raise
        except Exception as error:
            raise LoadError(f"{self.kind} {self.name!r} cannot be built: {type(error).__name__}: {error}") from error


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@attrs.frozen(kw_only=True)
class Kept:
    """What one adapted projection holds in memory besides its trained weights and what the frozen one holds.

    Everything is counted in elements, of the compute type unless it says otherwise. For the backward pass it keeps:

    Attributes:
        input: whether its input stays as it is; projections that read the same share it.
        elements: further elements for each position: copies of the input, what is between two factors.
        masks: elements for each position of masks of what dropout left out.
        float_masks: whether dropout sees its input in float32 whatever the compute type.
        constant: elements that do not depend on the length: casts of the weights, rotations.
        passing: elements for each position that are there only while the projection is computed, in either pass.
        working: the same, not depending on the length.
        buffers: float32 elements that are there all the time.
    """

    input: bool = True
    elements: float = 0.0
    masks: float = 0.0
    float_masks: bool = False
    constant: float = 0.0
    passing: float = 0.0
    working: float = 0.0
    buffers: float = 0.0


@attrs.frozen(kw_only=True)
class AdapterType(Spec):
    """A kind of adapter; its target is a class that follows `interfaces.Adapter`.

    Attributes:
        format: library whose files it writes, for exporters: "peft", "lycoris" or a third party's own word.
        count: `(config, out_features, in_features, rank or None) -> int`, the trainable parameters of one adapted
            projection; called without torch to show a plan.
        keeps: `(config, out_features, in_features, rank or None, mixed) -> Kept`, what one adapted projection keeps for
            the backward pass; `mixed` says that the frozen weights are in bf16 or fp16. Without it, memory is
            estimated as if it were a low-rank update.
        sizes: `(config, targets) -> targets`, what this type makes of the ranks and alphas that a rank map gives
            (`sidestep_core.targets.Target`); they are taken as they are when None. Called without torch.
    """

    kind = "adapter"
    format: str = "peft"
    count: Callable[[Any, int, int, int | None], int] | None = None
    keeps: Callable[[Any, int, int, int | None, bool], Kept] | None = None
    sizes: Callable[[Any, Sequence[Target]], Sequence[Target]] | None = None

    def fit(self, config: Any, targets: Sequence[Target]) -> Sequence[Target]:
        """Return targets whose ranks come from a rank map as this type takes them."""
        return targets if self.sizes is None else self.sizes(config, targets)


@attrs.frozen(kw_only=True)
class TimestepSamplerType(Spec):
    """A way to draw training timesteps; its target follows `interfaces.TimestepSampler`."""

    kind = "timestep-sampler"


@attrs.frozen(kw_only=True)
class LRControllerType(Spec):
    """A factor on the peak learning rate; its target follows `interfaces.LRController`."""

    kind = "lr-controller"


@attrs.frozen(kw_only=True)
class OptimizerType(Spec):
    """An optimizer; its target is called with (config, context) and follows `interfaces.OptimizerFactory`.

    Attributes:
        bytes_per_parameter: optimizer state kept for each trainable parameter, for memory estimates.
        default_learning_rate: peak rate when the user gives none, where it differs from the usual one.
    """

    kind = "optimizer"
    bytes_per_parameter: float = 8.0
    default_learning_rate: float | None = None


@attrs.frozen(kw_only=True)
class ProviderType(Spec):
    """A source of sidecar fields; its target follows `interfaces.Provider`.

    Attributes:
        supplies: sidecar fields it can fill (caption, genre, bpm, key, signature, language, is_instrumental, lyrics).
        offline: whether it works without a network; such a one describes one song at a time.
        service: whose secret fills a setting declared `secret` that nobody gave, as `sidestep_secret` knows it; the
            provider's own name when empty.
    """

    kind = "provider"
    supplies: frozenset[str] = frozenset()
    offline: bool = False
    service: str = ""


@attrs.frozen(kw_only=True)
class ExporterType(Spec):
    """A format an adapter can be written in; its target follows `interfaces.Exporter`.

    Attributes:
        accepts: what it can hold: kinds of updates as `sidestep adapter info` names them (lora, dora, oft, lokr, loha,
            full), or a format (`AdapterType.format`) with all of its types.
        instead: what to do with an adapter that it cannot hold, as the end of a message.
    """

    kind = "exporter"
    accepts: frozenset[str] = frozenset({"peft"})
    instead: str = ""


@attrs.frozen(kw_only=True)
class ObserverType(Spec):
    """A follower of a run's events; its target follows `interfaces.Observer`.

    Attributes:
        gradients_every: `(config) -> int`, the steps between reports that have the norm of every trained tensor's
            gradient; 0 for none. They cost a little, so they are not there unless they are asked for.
    """

    kind = "observer"
    gradients_every: Callable[[Any], int] | None = None


@attrs.frozen(kw_only=True)
class AnalyzerType(Spec):
    """An offline analysis of audio (tempo, key, metre); its target follows `interfaces.Analyzer`.

    Attributes:
        supplies: sidecar fields it can measure (bpm, key, signature).
        in_processes: whether songs are measured in several processes, each making its own analyser for each song; one
            that holds a model says False and is made once.
    """

    kind = "analyzer"
    supplies: frozenset[str] = frozenset()
    in_processes: bool = True


@attrs.frozen(kw_only=True)
class SeparatorType(Spec):
    """A way to take songs apart into vocals and instruments; its target follows `interfaces.Separator`.

    Attributes:
        stems: what it takes songs apart into.
    """

    kind = "separator"
    stems: frozenset[str] = frozenset()


Kind = Literal[
    "adapter",
    "timestep-sampler",
    "lr-controller",
    "optimizer",
    "provider",
    "exporter",
    "observer",
    "analyzer",
    "separator",
]
