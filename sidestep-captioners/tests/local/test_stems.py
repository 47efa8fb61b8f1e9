"""Demucs with its real loading and separation, on a small model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sidestep_captioners.local.configs import TranscriberConfig
from sidestep_captioners.local.transcriber import Transcriber
from sidestep_captioners.places import own_folder
from sidestep_captioners.stems.configs import DemucsConfig
from sidestep_captioners.stems.demucs import DemucsSeparator
from sidestep_captioners.stems.voice import Voice
from sidestep_captioners.stems.weights import load
from sidestep_core.audio.source import Samples
from sidestep_core.errors import Cancelled, CheckpointError, ProviderError
from sidestep_core.interfaces import Track
from sidestep_core.settings import DATA_VARIABLE
from sidestep_core.specs import BuildContext
from tiny_demucs import SOURCES, write_part, write_tiny_demucs


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as the hub holds it."""
    return write_tiny_demucs(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, no hub, and a data folder of the test's own."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def audio() -> Samples:
    """A second and a half at 48 kHz, with different sides."""
    rng = np.random.default_rng(3)
    return rng.normal(scale=0.1, size=(2, 72000)).astype(np.float32)


def never() -> bool:
    """Nobody asks to stop."""
    return False


def separated(config: DemucsConfig, audio: Samples) -> Mapping[str, Samples]:
    """Return the stems of audio."""
    with DemucsSeparator(config, BuildContext()) as separator:
        return separator.separate(audio, never)


def test_every_stem_is_as_long_as_the_song(weights: Path, audio: Samples) -> None:
    with DemucsSeparator(DemucsConfig(weights=weights), BuildContext()) as separator:
        stems = separator.separate(audio, never)
        assert separator.rate == 44100
    assert set(stems) == set(SOURCES)
    assert {stem.dtype for stem in stems.values()} == {np.dtype(np.float32)}
    assert {stem.shape for stem in stems.values()} == {(2, 66150)}
    assert all(np.isfinite(stem).all() for stem in stems.values())


@pytest.mark.slow
def test_the_level_of_the_song_is_that_of_its_stems(weights: Path, audio: Samples) -> None:
    config = DemucsConfig(weights=weights)
    usual, loud = separated(config, audio), separated(config, audio * 4)
    for name in SOURCES:
        assert loud[name] == pytest.approx(4 * usual[name], rel=1e-2, abs=1e-3)


@pytest.mark.slow
def test_several_models_count_as_one(tmp_path: Path, weights: Path, audio: Samples) -> None:
    both = write_tiny_demucs(tmp_path, "htdemucs_ft", parts=("one", "two"))
    assert len(load("htdemucs_ft", both, download=False).models) == 2
    mean = separated(DemucsConfig(model="htdemucs_ft", weights=both), audio)
    single = [separated(DemucsConfig(weights=both / f"{part}.safetensors"), audio) for part in ("one", "two")]
    for name in SOURCES:
        assert mean[name] == pytest.approx((single[0][name] + single[1][name]) / 2, abs=1e-5)


def test_stopping_ends_it_within_a_piece(weights: Path, audio: Samples) -> None:
    asked = []
    with DemucsSeparator(DemucsConfig(weights=weights), BuildContext()) as separator, pytest.raises(Cancelled):
        separator.separate(np.tile(audio, 4), lambda: not asked.append(1) and len(asked) > 1)
    assert len(asked) == 2


@pytest.mark.parametrize("form", ["own folder", "one file", "file by name"])
def test_weights_are_found_in_each_of_their_places(hub: Path, tmp_path: Path, form: str) -> None:
    named = tmp_path / "named"
    named.mkdir()
    if form == "own folder":
        write_tiny_demucs(own_folder("htdemucs"))
        assert load("htdemucs", None, download=False).sources == list(SOURCES)
        return
    file = named / ("mine.safetensors" if form == "one file" else "htdemucs.safetensors")
    write_part(file)
    place = file if form == "one file" else named
    assert load("htdemucs", place, download=False).sources == list(SOURCES)


def test_the_hubs_cache_is_looked_into_without_a_network(hub: Path) -> None:
    repository = hub / "models--adefossez--HTDemucs"
    write_tiny_demucs(repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert load("htdemucs", None, download=False).sources == list(SOURCES)


def test_missing_weights_are_named_with_their_place(hub: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        DemucsSeparator(DemucsConfig(), BuildContext()).__enter__()
    assert str(caught.value) == (
        "no weights of htdemucs: put htdemucs.yaml and the .safetensors files that it names of "
        f"https://huggingface.co/adefossez/HTDemucs into '{own_folder('htdemucs')}', or say --allow-download"
    )


def test_a_missing_part_is_named(weights: Path, tmp_path: Path) -> None:
    write_tiny_demucs(tmp_path, parts=("one", "two"))
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights of htdemucs: put two\.safetensors of https"):
        load("htdemucs", tmp_path, download=False)


def test_a_hub_that_does_not_answer_is_said(hub: Path) -> None:
    with pytest.raises(CheckpointError, match="adefossez/HTDemucs cannot be fetched: "):
        load("htdemucs", None, download=True)


@pytest.mark.parametrize(
    "facts",
    [
        {"klass": "subprocess.Popen", "args": '[["touch", "owned"]]', "kwargs": "{}"},
        {"klass": "demucs.htdemucs.HTDemucs", "args": "[[]]", "kwargs": "{}", "structure": '{"_class": "os.system"}'},
        {},
    ],
)
def test_a_file_cannot_say_what_is_run(tmp_path: Path, facts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "htdemucs.safetensors", metadata=facts)
    with pytest.raises(CheckpointError, match="holds no model of Demucs that can be loaded"):
        load("htdemucs", tmp_path, download=False)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("damage", ["cut", "other shape"])
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "htdemucs.safetensors"
    write_part(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata()
        save_file({"a": torch.zeros(1)}, path, metadata=facts)
    with pytest.raises(CheckpointError, match="cannot be loaded: ") as caught:
        load("htdemucs", tmp_path, download=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["models: 3\n", "{", "- a\n"])
def test_a_list_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "htdemucs.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"htdemucs\.yaml' is no list of models: "):
        load("htdemucs", tmp_path, download=False)


@pytest.fixture
def voice(weights: Path) -> Iterator[Voice]:
    made = Voice(DemucsConfig(weights=weights))
    made.open()
    yield made
    made.close()


def test_the_voice_alone_is_as_long_as_the_song(voice: Voice, song: Track) -> None:
    heard = voice.hear(song.path, never)
    assert (heard.shape, heard.dtype) == ((2, 3 * 48000), np.float32)


def test_the_voice_of_what_is_no_audio_is_an_error_of_the_song(voice: Voice, tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        voice.hear(tmp_path / "gone.wav", never)
    assert caught.value.kind == "no audio"


def test_threads_take_turns(voice: Voice, song: Track) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: voice.hear(song.path, never), range(2))
    assert np.array_equal(first, second)


class TestTranscriberHearsTheVoice:
    """The transcriber, which may hear the voice alone."""

    def test_what_it_hears_is_another_thing(self, hub: Path, tiny_models: Path, song: Track) -> None:
        write_tiny_demucs(own_folder("htdemucs"))
        heard: list[Any] = []
        for only in (False, True):
            config = TranscriberConfig(weights=tiny_models, vocals_only=only)
            with Transcriber(config, BuildContext()) as provider:
                model = provider._model.listener.model
                generate = model.generate
                model.generate = lambda generate=generate, **given: heard.append(given) or generate(**given)
                assert provider.describe(song, frozenset({"lyrics"}), never).fields["lyrics"]
        whole, voice = (given["input_features"] for given in heard)
        assert whole.shape == voice.shape
        assert not torch.equal(whole, voice)

    def test_missing_weights_are_said_before_the_model_is_loaded(self, hub: Path, tiny_models: Path) -> None:
        config = TranscriberConfig(weights=tiny_models, vocals_only=True)
        with pytest.raises(ProviderError, match="--vocals-only: no weights of htdemucs: put "):
            Transcriber(config, BuildContext()).__enter__()
        with pytest.raises(ProviderError, match="--vocals-only: no weights of htdemucs: put "):
            Transcriber(config, BuildContext()).check()

    def test_what_is_no_audio_is_an_error_of_the_song(self, hub: Path, tiny_models: Path, song: Track) -> None:
        write_tiny_demucs(own_folder("htdemucs"))
        song.path.write_text("no audio")
        with (
            Transcriber(TranscriberConfig(weights=tiny_models, vocals_only=True), BuildContext()) as provider,
            pytest.raises(ProviderError) as caught,
        ):
            provider.describe(song, frozenset({"lyrics"}), never)
        assert caught.value.kind == "no audio"
