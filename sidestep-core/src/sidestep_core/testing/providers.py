"""What every provider of captions, lyrics or metadata must keep."""

from __future__ import annotations

import math
import struct
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from sidestep_core.describing.normalise import FIELDS, normalise_all
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.interfaces import Description, Provider, Track
from sidestep_core.options import options_of
from sidestep_core.specs import ProviderType
from sidestep_core.testing.component import ComponentContract

SECRET = "sk-contract-5e4d"


class ProviderContract(ComponentContract):
    """A provider; override `config` (or the `spec` fixture) so that it can answer, say by a server of the test's own.

    Attributes:
        hears: whether it needs the audio file; one that looks songs up by their names does not.
    """

    kind = "provider"
    hears = True

    @pytest.fixture
    def provider(self, spec: ProviderType) -> Iterator[Provider]:
        """The provider, built and entered."""
        with spec.build(self.config, self.context) as provider:
            yield provider

    @pytest.fixture
    def track(self, tmp_path: Path) -> Track:
        """A song of two seconds with a title that is not ASCII."""
        path = tmp_path / "Åse – Überraschung.wav"
        write_tone(path)
        return Track(path=path, title="Überraschung", artist="Åse", duration=2.0)

    def test_it_says_what_it_supplies(self, spec: ProviderType) -> None:
        assert spec.supplies
        assert spec.supplies <= set(FIELDS)

    def test_it_can_be_checked_without_being_entered(self, spec: ProviderType) -> None:
        line = spec.build(self.config, self.context).check()
        assert line
        assert "\n" not in line

    def test_it_gives_what_is_wanted_in_a_form_that_can_be_used(
        self, provider: Provider, spec: ProviderType, track: Track
    ) -> None:
        found = provider.describe(track, spec.supplies, _never)
        assert found.source
        assert found.fields.keys() <= spec.supplies
        assert normalise_all(found.fields).keys() == found.fields.keys()
        assert found.confidence.keys() <= found.fields.keys()

    def test_it_gives_nothing_that_is_not_wanted(self, provider: Provider, spec: ProviderType, track: Track) -> None:
        for field in sorted(spec.supplies):
            assert provider.describe(track, frozenset({field}), _never).fields.keys() <= {field}

    def test_it_leaves_the_song_and_its_folder_alone(
        self, provider: Provider, spec: ProviderType, track: Track
    ) -> None:
        before = _contents(track.path.parent)
        provider.describe(track, spec.supplies, _never)
        assert _contents(track.path.parent) == before

    def test_a_file_that_is_not_there_is_an_error_of_its_own(
        self, provider: Provider, spec: ProviderType, track: Track
    ) -> None:
        gone = attrs.evolve(track, path=track.path.with_name("gone.wav"))
        if not self.hears:
            assert isinstance(provider.describe(gone, spec.supplies, _never), Description)
            return
        with pytest.raises(ProviderError):
            provider.describe(gone, spec.supplies, _never)

    def test_it_ends_soon_when_the_user_stops(self, provider: Provider, spec: ProviderType, track: Track) -> None:
        try:
            found = provider.describe(track, spec.supplies, lambda: True)
        except Cancelled:
            return
        assert found.fields.keys() <= spec.supplies

    def test_several_songs_can_be_described_at_once(self, provider: Provider, spec: ProviderType, track: Track) -> None:
        found: list[Description] = []
        ask = threading.Thread(target=lambda: found.append(provider.describe(track, spec.supplies, _never)))
        if not spec.offline:
            ask.start()
        found.append(provider.describe(track, spec.supplies, _never))
        if not spec.offline:
            ask.join()
        assert len({tuple(sorted(description.fields)) for description in found}) == 1
        assert len(found) == (1 if spec.offline else 2)

    def test_its_secrets_are_not_shown(self, spec: ProviderType, track: Track) -> None:
        made = spec.config() if self.config is None and spec.config is not None else self.config
        secrets = [option.name for option in options_of(type(made)) if option.secret] if made is not None else []
        keyed = attrs.evolve(made, **dict.fromkeys(secrets, SECRET)) if secrets else made
        assert SECRET not in repr(keyed)
        provider = spec.build(keyed, self.context)
        said = ""
        try:
            said = provider.check()
            with provider as entered:
                entered.describe(track, spec.supplies, lambda: False)
        except (ProviderError, Cancelled) as error:
            said += str(error)
        assert SECRET not in said + repr(provider)


def write_tone(path: Path, seconds: float = 2.0, rate: int = 16000) -> None:
    """Write a quiet tone as a WAV file, with the standard library alone."""
    samples = (round(6000 * math.sin(math.tau * 220 * n / rate)) for n in range(round(seconds * rate)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


def _never() -> bool:
    return False


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
