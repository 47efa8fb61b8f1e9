"""The embeddable façade: plugins, settings and the work of every command, as plain calls that yield events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidestep_core.launch import launched
from sidestep_core.plugins import PluginRecord, Plugins
from sidestep_core.registry import Registry
from sidestep_core.requests import Choice, Chosen, Components, TrainRequest
from sidestep_core.settings import Settings
from sidestep_core.specs import BuildContext

if TYPE_CHECKING:
    from sidestep_core.analysis.config import AnalyzeConfig
    from sidestep_core.bench.settings import BenchConfig
    from sidestep_core.configs import CheckConfig, MeasureConfig, ModelConfig, PreprocessConfig, SoundConfig
    from sidestep_core.describing.plan import SongPlan
    from sidestep_core.describing.request import DescribeRequest
    from sidestep_core.estimate import Estimation
    from sidestep_core.events import Event
    from sidestep_core.interfaces import ExportReport, ExportRequest, Observer
    from sidestep_core.model.layout import ModelFolder
    from sidestep_core.plan import TrainPlan
    from sidestep_core.separating import StemsConfig
    from sidestep_core.store.index import TensorStore

logger = logging.getLogger(__name__)


def never() -> bool:
    """Return False: nobody asks to stop."""
    return False


class Toolkit:
    """One set of plugins and settings, and what can be done with them. Nothing here prints or exits.

    Args:
        plugins: plugin modules or objects by name, besides installed ones.
        entry_points: look for installed plugins.
        settings: the user's settings; read from their file when None.
    """

    def __init__(
        self,
        *,
        plugins: Mapping[str, Any] | None = None,
        entry_points: bool = True,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings.load()
        self.plugins = Plugins(disabled=self.settings.get("disabled"), entry_points=entry_points, extra=plugins)

    @classmethod
    def discover(cls, settings: Settings | None = None) -> Toolkit:
        """Return a toolkit with every installed plugin."""
        return cls(settings=settings)

    @property
    def records(self) -> list[PluginRecord]:
        """What became of each plugin."""
        return self.plugins.records

    def registry(self, kind: str) -> Registry[Any]:
        """Return the components of one kind (`specs.Kind`)."""
        return self.plugins.registries[kind]

    def checkpoint_dir(self, given: Path | None = None) -> Path:
        """Return the folder of the models: the given one, then the settings', then ./checkpoints.

        Raises:
            CheckpointError: there is none.
        """
        from sidestep_core.model.layout import find_checkpoint_dir

        return find_checkpoint_dir(given, self.settings.get("checkpoint_dir"))

    def models(self, checkpoint_dir: Path | None = None) -> list[ModelFolder]:
        """Return the models that are there, official ones first."""
        from sidestep_core.model.layout import find_models

        return find_models(self.checkpoint_dir(checkpoint_dir))

    def model(self, config: ModelConfig) -> ModelFolder:
        """Return the model that the settings name.

        Raises:
            CheckpointError: it is not there; the message lists what is.
        """
        from sidestep_core.model.layout import resolve_model

        return resolve_model(self.checkpoint_dir(config.checkpoint_dir), config.model)

    def preprocess(
        self, config: PreprocessConfig, model: ModelConfig, *, cancelled: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """Make tensors from audio and captions; see `sidestep_core.preprocess.run.preprocess`.

        Of processes that were started together, the main one alone yields events, here and in `train`.
        """
        folder = self.model(model)
        from sidestep_core.device import resolve_device, resolve_precision
        from sidestep_core.preprocess.run import preprocess

        device = resolve_device(model.device)
        dtype = resolve_precision(model.precision, device)
        yield from _told(preprocess(config, folder, device=device, dtype=dtype, cancelled=cancelled))

    def separate(
        self, config: StemsConfig, separator: Choice, *, cancelled: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """Take songs apart into vocals and instruments; see `sidestep_core.separating.separate`."""
        from sidestep_core.separating import separate

        yield from separate(config, self._chosen("separator", separator), cancelled=cancelled)

    def analyze(
        self,
        config: AnalyzeConfig,
        model: ModelConfig,
        *,
        cancelled: Callable[[], bool] = never,
        cache: Path | None = None,
    ) -> Iterator[Event]:
        """Find out which projections matter for tensors, and with what ranks; no rank map is written.

        The last event is `AnalysisFinished`; `sidestep_core.analysis.result.write_map` writes what it holds. What does
        not depend on the songs is kept in the folder `cache`, the user's when None.

        Raises:
            ConfigError: no tensors are named, or the settings do not fit.
            Cancelled: it was asked to stop.
        """
        from sidestep_core.errors import ConfigError
        from sidestep_core.store.index import open_store

        if not config.dataset_dir:
            raise ConfigError("no tensors to analyze: give --dataset-dir, a folder made by 'sidestep preprocess'")
        adapter = self._chosen("adapter", Choice(name=config.adapter_type)).spec
        stores = [open_store(path) for path in config.dataset_dir]
        folder = self.model(model)
        from sidestep_core.analysis.run import analyze
        from sidestep_core.analysis.work import make_work

        yield from analyze(make_work(config, model, adapter, folder, stores, cancelled, cache))

    def measure(
        self, config: MeasureConfig, analyzer: Choice, *, cancelled: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """Measure songs and note tempo, key and metre in their sidecars; see `sidestep_core.measuring.measure`."""
        from sidestep_core.measuring import measure

        yield from measure(config, self._chosen("analyzer", analyzer), cancelled=cancelled)

    def describe(self, request: DescribeRequest, *, cancelled: Callable[[], bool] = never) -> Iterator[Event]:
        """Fill the sidecars of songs by asking providers; see `sidestep_core.describing.job.describe`."""
        from sidestep_core.describing.job import describe
        from sidestep_core.describing.request import find_asked

        yield from describe(request.config, find_asked(request, self.plugins), cancelled=cancelled)

    def plan_describing(self, request: DescribeRequest) -> list[SongPlan]:
        """Work out what would be asked about which song, without asking anybody."""
        from sidestep_core.describing.plan import audio_dir, plan_songs
        from sidestep_core.describing.request import find_asked

        stages = [asked.stage for asked in find_asked(request, self.plugins)]
        return plan_songs(audio_dir(request.config), stages, request.config.policy)

    def check_provider(self, choice: Choice) -> str:
        """Return in one line what answers at a provider; free of charge.

        Raises:
            UnknownName, LoadError: there is no such provider, or it cannot be made.
            ProviderError: nothing would answer.
        """
        from sidestep_core.describing.request import check_provider

        return check_provider(choice, self.plugins)

    def check(self, config: CheckConfig, *, cancelled: Callable[[], bool] = never) -> Iterator[Event]:
        """Look for all that is wrong with a set of songs; see `sidestep_core.doctor.check.check`.

        Raises:
            CheckpointError: the checkpoint folder given holds no model or no tokenizer.
        """
        from sidestep_core.doctor.check import check

        yield from check(config, count=self._token_counter(config), cancelled=cancelled)

    def components(self, request: TrainRequest) -> Components:
        """Look up the components a request names.

        Raises:
            UnknownName, AmbiguousName: with what there is instead.
        """
        return Components(
            adapter=self._chosen("adapter", request.adapter),
            timesteps=self._chosen("timestep-sampler", request.timesteps),
            controllers=tuple(self._chosen("lr-controller", choice) for choice in request.controllers),
            optimizer=self._chosen("optimizer", request.optimizer),
            observers=tuple(self._chosen("observer", choice) for choice in request.observers),
        )

    def plan(self, request: TrainRequest) -> TrainPlan:
        """Work out a run without starting it: what is trained, for how long, with how much memory. No torch."""
        from sidestep_core.errors import ConfigError
        from sidestep_core.plan import make_plan

        if not request.data.dataset_dir:
            raise ConfigError("no tensors to train on: give --dataset-dir, a folder made by 'sidestep preprocess'")
        components = self.components(request)
        return make_plan(request, components, self.model(request.model), self._stores(request))

    def estimate(
        self, request: TrainRequest, *, seconds: Sequence[float] = (), free: int | None = None, measure: bool = False
    ) -> Estimation:
        """Work out how much memory runs take and whether they fit; see `sidestep_core.estimate.estimate`."""
        from sidestep_core.estimate import estimate

        stores = self._stores(request)
        model, components = self.model(request.model), self.components(request)
        return estimate(request, components, model, stores, seconds=seconds, free=free, measured=measure)

    def train(
        self, plan: TrainPlan, *, stop: Callable[[], bool] = never, observers: Sequence[Observer] = ()
    ) -> Iterator[Event]:
        """Train what a plan says, showing every event to the chosen and the given observers before yielding it."""
        from sidestep_core.training.loop import train

        context = BuildContext(model=plan.model.dims, variant=plan.model.variant, run=plan.run)
        everyone = list(observers)
        try:
            for chosen in plan.components.observers if launched().main else ():
                everyone.insert(len(everyone) - len(observers), chosen.build(context))
            watching = everyone
            for event in _told(train(plan, stop=stop)):
                watching = [observer for observer in watching if _shown(observer, event)]
                yield event
        finally:
            for observer in everyone:
                _closed(observer)

    def preview(
        self,
        sound: SoundConfig,
        model: ModelConfig,
        *,
        output: Path,
        adapter: Path | None = None,
        compare: bool = False,
    ) -> Iterator[Event]:
        """Generate audio with an adapter, without, or both; see `sidestep_core.generation.listen.listen`."""
        folder = self.model(model)
        from sidestep_core.device import resolve_device, resolve_precision
        from sidestep_core.generation.listen import Listening, listen

        device = resolve_device(model.device)
        dtype = resolve_precision(model.precision, device)
        wanted = Listening(sound=sound, output=output, adapter=adapter, compare=compare, device=device, dtype=dtype)
        yield from listen(wanted, folder)

    def demo(
        self, output: Path, audio_dir: Path | None = None, *, cancelled: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """Go the whole way on a tiny model; see `sidestep_core.demo.run.demo`."""
        from sidestep_core.demo.run import demo

        yield from demo(self, output, audio_dir, cancelled=cancelled)

    def bench(
        self, config: BenchConfig, model: ModelConfig, *, starts: Mapping[str, Sequence[str]] | None = None
    ) -> Iterator[Event]:
        """Measure training on this machine; see `sidestep_core.bench.run.bench`."""
        from sidestep_core.bench.run import bench

        yield from bench(self, config, model, starts=starts or {})

    def export(self, target: str, request: ExportRequest, config: Any = None) -> ExportReport:
        """Write an adapter for another program and prove it.

        Args:
            target: name of the exporter.
            request: what to write, from what.
            config: the exporter's settings, the defaults when None.

        Raises:
            UnknownName: there is no such target.
            ExportError: the target cannot hold this adapter.
            ProofError: what was written does not read back as trained; no file is left.
        """
        from sidestep_core.formats.accept import refuse_early

        spec: Any = self.plugins.find("exporter", target)
        refuse_early(request.adapter, request.prefix, spec, target)
        return spec.build(config).export(request)  # type: ignore[no-any-return]

    def _stores(self, request: TrainRequest) -> list[TensorStore]:
        from sidestep_core.store.index import open_store

        return [open_store(path) for path in request.data.dataset_dir]

    def _token_counter(self, config: CheckConfig) -> Callable[[str], int] | None:
        """Return what counts tokens; None where no checkpoint folder is named and none lies about."""
        from sidestep_core.errors import CheckpointError
        from sidestep_core.model.layout import resolve_model

        try:
            model = resolve_model(self.checkpoint_dir(config.checkpoint_dir), None)
            from sidestep_core.model.tokenizer import load_tokenizer

            tokenizer = load_tokenizer(model)
        except CheckpointError:
            if config.checkpoint_dir is not None:
                raise
            return None
        return lambda text: len(tokenizer(text)["input_ids"])

    def _chosen(self, kind: str, choice: Choice) -> Chosen[Any]:
        return Chosen(spec=self.plugins.find(kind, choice.name), config=choice.config, called=choice.name)


def _told(events: Iterator[Event]) -> Iterator[Event]:
    """Yield events in the main process; in another one take part in what makes them, and yield none."""
    if launched().main:
        yield from events
        return
    for _ in events:
        pass


def _shown(observer: Observer, event: Event) -> bool:
    """Return whether an observer took an event; one that raises is logged and dropped for the rest of the run."""
    try:
        observer.observe(event)
    except Exception:
        logger.exception("observer %s failed and is dropped for this run", type(observer).__name__)
        return False
    return True


def _closed(observer: Observer) -> None:
    """Close an observer; one that fails at that keeps neither the others open nor the run from ending."""
    try:
        observer.close()
    except Exception:
        logger.exception("observer %s failed to close", type(observer).__name__)
