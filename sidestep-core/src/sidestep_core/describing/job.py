"""Describing a folder of songs: each provider in its turn, every answer in its sidecar as soon as it is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue

import attrs

from sidestep_core.describing.configs import CaptionsConfig
from sidestep_core.describing.guards import Guess, find_doubts
from sidestep_core.describing.normalise import FIELDS, normalise_all
from sidestep_core.describing.plan import ALONG, SongPlan, audio_dir, plan_songs, wanted_fields
from sidestep_core.describing.provenance import read_sources, write_fields
from sidestep_core.describing.request import Asked
from sidestep_core.describing.titles import read_track
from sidestep_core.describing.trying import Gate, Wait, persist
from sidestep_core.errors import Cancelled, DatasetError, LoadError, ProviderError, SidestepError
from sidestep_core.events import DescribeFinished, DescribeStarted, Event, Notice, SongDescribed
from sidestep_core.interfaces import Confidence, Description, Provider
from sidestep_core.languages import load_guesser
from sidestep_core.sidecars import MergePolicy, Sidecar, read_sidecar

ENDING = ("key", "quota")
STOPPED = "stopped"


def describe(config: CaptionsConfig, providers: Sequence[Asked], *, cancelled: Callable[[], bool]) -> Iterator[Event]:
    """Fill the sidecars of a folder of songs, and yield what happens; the last event is `DescribeFinished`.

    What a provider answered is written before the next song's answer is waited for, so that whatever ends the program
    costs the songs in work at most. The same call made again goes on where this one ended.

    Args:
        config: the songs and what may be overwritten.
        providers: whom to ask, in the order of their turns.
        cancelled: asked often; when it says so, the songs in work are finished and the rest is left.

    Raises:
        ConfigError, DatasetError: no folder, or no songs in it.
        Cancelled: after the last event, if `cancelled` said so.
    """
    songs = plan_songs(audio_dir(config), [asked.stage for asked in providers], config.policy)
    job = _Job(config=config, cancelled=cancelled)
    yield from (job.note(SongDescribed(name=s.name, provider="", problem=s.problem)) for s in songs if s.problem)
    for asked in providers:
        if job.ended or cancelled():
            break
        yield from job.turn(asked, [song for song in songs if not song.problem and not song.complete])
    yield job.finished(songs)
    if cancelled():
        raise Cancelled(STOPPED)


def wanted_now(song: SongPlan, asked: Asked, policy: MergePolicy, written: frozenset[str]) -> frozenset[str]:
    """Return what a provider is asked about a song as its sidecar is now, less what this run wrote."""
    sidecar, sources = read_sidecar(song.path) or Sidecar(), read_sources(song.path)
    wanted = wanted_fields(sidecar, sources, asked.stage, policy) - written
    return wanted if wanted - ALONG else frozenset()


@attrs.define
class _Job:
    """One run: what it has to do, and what came of each song so far."""

    config: CaptionsConfig
    cancelled: Callable[[], bool]
    ended: str = ""
    done: list[SongDescribed] = attrs.field(factory=list)
    # what this run wrote, by song: another provider does not overwrite it again
    written: dict[str, frozenset[str]] = attrs.field(factory=dict)

    def note(self, event: SongDescribed) -> SongDescribed:
        """Keep what became of a song."""
        self.done.append(event)
        self.written[event.name] = self.written.get(event.name, frozenset()) | set(event.fields)
        return event

    def turn(self, asked: Asked, songs: Sequence[SongPlan]) -> Iterator[Event]:
        """Let one provider describe what is still open."""
        if not (left := [song for song in songs if self._is_open(asked, song)]):
            return
        yield DescribeStarted(provider=asked.stage.name, total=len(left))
        try:
            provider = asked.open()
        except (ProviderError, LoadError) as error:
            message = f"{asked.stage.name}: {error}"
            if not (asked.optional and getattr(error, "kind", "key") == "key"):
                self.ended = message
                return
            yield Notice(message=f"{message}; it is left out", warning=True)
            return
        try:
            yield from self._ask_all(asked, provider, left)
        finally:
            asked.close(provider)

    def finished(self, songs: Sequence[SongPlan]) -> DescribeFinished:
        """Return what became of all songs."""
        failed = {event.name for event in self.done if event.problem}
        written = {event.name for event in self.done if event.fields}
        order = {song.name: number for number, song in enumerate(songs)}
        return DescribeFinished(
            written=len(written),
            complete=sum(song.complete for song in songs),
            unchanged=len({event.name for event in self.done} - failed - written),
            failed=len(failed),
            left=sum(not song.complete and song.name not in self.written for song in songs),
            songs=tuple(sorted(self.done, key=lambda event: order[event.name])),
            ended=self.ended,
        )

    def _is_open(self, asked: Asked, song: SongPlan) -> bool:
        try:
            return bool(wanted_now(song, asked, self.config.policy, self.written.get(song.name, frozenset())))
        except DatasetError:  # asking about the song says what is wrong
            return True

    def _ask_all(self, asked: Asked, provider: Provider, songs: Sequence[SongPlan]) -> Iterator[Event]:
        """Ask about several songs at once and yield each event as it comes."""
        events: SimpleQueue[Event | None] = SimpleQueue()
        width = 1 if asked.spec.offline else min(self.config.workers, len(songs))
        over, rest = threading.Event(), iter(songs)
        worker = _Worker(
            asked=asked,
            provider=provider,
            gate=Gate(asked.stage.name, width),
            config=self.config,
            guess=load_guesser() if "lyrics" in asked.stage.fields else None,
            tell=events.put,
            cancelled=lambda: over.is_set() or self.cancelled(),
        )
        lock = threading.Lock()

        def work() -> None:
            try:
                while not worker.cancelled():
                    with lock:
                        song = next(rest, None)
                    if song is None or not worker.describe(song, self.written.get(song.name, frozenset())):
                        break
            finally:
                events.put(None)

        # daemons: a program that is told twice to end does not wait for a server's answer
        for _ in range(width):
            threading.Thread(target=work, daemon=True).start()
        try:
            left = width
            while left:
                event = events.get()
                if event is None:
                    left -= 1
                elif isinstance(event, _Fatal):
                    over.set()
                    self.ended = self.ended or event.message
                else:
                    yield self.note(event) if isinstance(event, SongDescribed) else event
        finally:
            over.set()


@attrs.frozen(kw_only=True)
class _Fatal(Event):
    """Nothing else will work, either."""

    message: str


@attrs.frozen(kw_only=True)
class _Worker:
    """Describes songs with one provider, in one of several threads."""

    asked: Asked
    provider: Provider
    gate: Gate
    config: CaptionsConfig
    guess: Guess | None
    tell: Callable[[Event], None]
    cancelled: Callable[[], bool]

    def describe(self, song: SongPlan, written: frozenset[str]) -> bool:
        """Ask about one song, write the answer and tell; return whether to go on."""
        began = time.monotonic()
        told = SongDescribed(name=song.name, provider=self.asked.stage.name)
        try:
            told = self._describe(song, written, told)
        except Cancelled:
            return False
        except ProviderError as error:
            reason = self.asked.hide(str(error))
            if error.kind in ENDING:
                self.tell(_Fatal(message=f"{told.provider}: {reason}"))
                return False
            # a service that does not know a song has answered
            told = attrs.evolve(told, **{"doubts": (reason,)} if error.kind == "not found" else {"problem": reason})
        except (SidestepError, OSError) as error:
            told = attrs.evolve(told, problem=self.asked.hide(str(error)))
        except Exception as error:  # a provider of somebody else's: it costs this song, not the others
            self.asked.log_failure()
            told = attrs.evolve(told, problem=self.asked.hide(f"{type(error).__name__}: {error}"))
        self.tell(attrs.evolve(told, seconds=time.monotonic() - began))
        return True

    def _describe(self, song: SongPlan, written: frozenset[str], told: SongDescribed) -> SongDescribed:
        if not (wanted := wanted_now(song, self.asked, self.config.policy, written)):
            return told
        known, sources = attrs.asdict(read_sidecar(song.path) or Sidecar()), read_sources(song.path)
        track = read_track(song.path, known=known, default_artist=self.config.default_artist)
        answer = persist(
            lambda: self.provider.describe(track, wanted, self.cancelled),
            self.gate,
            tries=self.config.tries,
            cancelled=self.cancelled,
            told=self._tell_wait,
        )
        order = [field for field in FIELDS if field in wanted]
        fields = normalise_all({field: answer.fields[field] for field in order if field in answer.fields})
        doubts = find_doubts(track, fields, sources, self.guess)
        changed = write_fields(
            song.path,
            {**dict.fromkeys(order, ""), **fields},
            source=self.asked.stage.name,
            kind="provider",
            policy=self.config.policy,
            confidence=_confidence(answer, doubts),
            doubts={field: (*doubts.get(field, ()), *answer.doubts) for field in fields},
            model=answer.source,
        )
        lines = (f"{field}: {line}" for field, found in doubts.items() for line in found)
        return attrs.evolve(told, fields=tuple(changed), doubts=(*lines, *answer.doubts))

    def _tell_wait(self, wait: Wait) -> None:
        reason = self.asked.hide(wait.reason)
        self.tell(Notice(message=f"{wait.provider}: {reason}; trying again in {wait.seconds:.0f} s"))


def _confidence(answer: Description, doubts: Mapping[str, tuple[str, ...]]) -> dict[str, Confidence]:
    """Return how sure the source is of each field; of one with doubts nobody is."""
    return {**answer.confidence, **dict.fromkeys(doubts, "low")}
