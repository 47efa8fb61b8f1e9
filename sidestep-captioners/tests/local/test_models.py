"""Local providers with the real loading and generation, on small models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sidestep_captioners.local.captioner import Captioner, captioner, four_bit_captioner
from sidestep_captioners.local.configs import CaptionerConfig, FlamingoConfig, TranscriberConfig
from sidestep_captioners.local.flamingo import FlamingoCaptioner
from sidestep_captioners.local.listener import Effort, Question, _Penalties
from sidestep_captioners.local.loading import place
from sidestep_captioners.local.thinker import Thinker, audio_tokens, chat
from sidestep_captioners.local.transcriber import Transcriber
from sidestep_captioners.local.weights import locate
from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.errors import Cancelled, ConfigError, ProviderError
from sidestep_core.interfaces import Track
from sidestep_core.specs import BuildContext
from sidestep_core.testing.contracts import ProviderContract

CONTEXT = BuildContext()
EVERYTHING = frozenset({"caption", "genre", "bpm", "key", "signature", "language", "is_instrumental"})
ASKED = Question("What is it?")
COLD = GenerationConfig(temperature=0, repetition_penalty=1)


def never() -> bool:
    """Nobody asks to stop."""
    return False


@pytest.fixture(scope="module")
def babbler(tiny_models: Path) -> Thinker:
    """A model with random weights: it does not end by itself."""
    return Thinker(locate(str(tiny_models / "babbling"), None), place("cpu", four_bit=False, offload=False))


@pytest.fixture
def tone() -> Any:
    """Two seconds of a tone."""
    return torch.sin(torch.arange(32000) * 0.1).numpy()


class Counted:
    """Asks to stop when it was asked so often whether to."""

    def __init__(self, after: int) -> None:
        self.asked, self._after = 0, after

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self._after


class Scarce:
    """In front of a model's `generate`, lets what is above a limit run out of memory, in the real call."""

    def __init__(self, generate: Callable[..., Any], allowed: Callable[[dict[str, Any]], bool]) -> None:
        self._generate, self._allowed, self.tried = generate, allowed, 0

    def __call__(self, **arguments: Any) -> Any:
        self.tried += 1
        if not self._allowed(arguments):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._generate(**arguments)


def scarce(provider: Any, allowed: Callable[[dict[str, Any]], bool]) -> Scarce:
    """Let an entered provider have little memory."""
    model = provider._model.listener.model
    model.generate = Scarce(model.generate, allowed)
    return model.generate


def heard_seconds(arguments: dict[str, Any]) -> float:
    """Return the seconds of audio in the input of a model."""
    return arguments["feature_attention_mask"].sum().item() / 100


# Contracts


@pytest.mark.slow
class TestFourBits(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "local_8-10gb"

    @pytest.fixture(autouse=True)
    def _with_weights(self, tiny_models: Path) -> None:
        self.config = CaptionerConfig(weights=tiny_models, model="qwen2.5-omni-7b")


class TestHalfPrecision(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "local_16gb"

    @pytest.fixture(autouse=True)
    def _with_weights(self, tiny_models: Path) -> None:
        self.config = CaptionerConfig(weights=tiny_models)


@pytest.mark.slow
class TestTranscriber(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "acestep_transcriber"

    @pytest.fixture(autouse=True)
    def _with_weights(self, tiny_models: Path) -> None:
        self.config = TranscriberConfig(weights=tiny_models)


@pytest.mark.slow
class TestMusicFlamingo(ProviderContract):
    plugin, name = "sidestep_captioners.plugin", "music_flamingo_local"

    @pytest.fixture(autouse=True)
    def _with_weights(self, tiny_models: Path) -> None:
        self.config = FlamingoConfig(weights=tiny_models, accept_license=True)


# What they say


def test_the_default_is_ace_steps_captioner_and_its_prose_is_the_caption(tiny_models: Path, song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models), CONTEXT) as provider:
        found = provider.describe(song, EVERYTHING, never)
    assert found.source == "acestep-captioner"
    assert found.fields["caption"].startswith("A warm dub track in A minor, around 92 BPM")
    assert (found.fields["bpm"], found.fields["key"]) == ("92", "A minor")
    assert found.confidence == {"bpm": "low", "key": "low"}
    assert found.doubts == ()


def test_qwen_is_asked_for_every_field(tiny_models: Path, song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models, model="qwen2.5-omni-7b"), CONTEXT) as provider:
        found = provider.describe(song, EVERYTHING, never)
    assert found.fields["caption"] == "A slow song."
    assert found.fields["genre"] == "dub, soul"
    assert (found.fields["key"], found.fields["is_instrumental"]) == ("F# minor", "true")


@pytest.mark.parametrize("give", [captioner, pytest.param(four_bit_captioner, marks=pytest.mark.slow)])
def test_the_trained_question_is_asked_with_the_recording_after_it(
    tiny_models: Path, song: Track, give: Callable[..., Captioner]
) -> None:
    with give(CaptionerConfig(weights=tiny_models), CONTEXT) as provider:
        listener = provider._model.listener
        model, asked = listener.model, []
        generate = model.generate
        model.generate = lambda **given: asked.append(given["input_ids"]) or generate(**given)
        provider.describe(song, frozenset({"caption"}), never)
    text = listener.tokenizer.decode(asked[0][0])
    user = text.split("<|im_start|>user\n")[1]
    assert user.startswith("*Task* Describe this audio in detail<|audio_bos|><|AUDIO|>")
    assert user.endswith("<|audio_eos|><|im_end|>\n<|im_start|>assistant\n")
    assert user.count("<|AUDIO|>") == 75  # 25 a second


def test_the_transcriber_gives_lyrics_and_their_language(tiny_models: Path, song: Track) -> None:
    with Transcriber(TranscriberConfig(weights=tiny_models), CONTEXT) as provider:
        found = provider.describe(song, frozenset({"lyrics", "language", "is_instrumental"}), never)
    assert found.fields == {
        "lyrics": "[Verse 1]\n歩いていこう\n\n[Chorus]\nLet it shine",
        "language": "ja",
        "is_instrumental": "false",
    }


def test_a_model_that_answers_nothing_it_was_asked_fails(tiny_models: Path, song: Track) -> None:
    config = CaptionerConfig(weights=tiny_models, model="babbling", max_tokens=16)
    with captioner(config, CONTEXT) as provider, pytest.raises(ProviderError) as caught:
        provider.describe(song, EVERYTHING, never)
    assert caught.value.kind == "bad answer"


@pytest.mark.parametrize("model", ["music-flamingo", "nvidia/music-flamingo-2601-hf"])
def test_music_flamingo_says_its_licence_before_it_is_loaded(tiny_models: Path, model: str) -> None:
    weights = tiny_models / "music-flamingo"
    provider = FlamingoCaptioner(FlamingoConfig(weights=weights, model=model, allow_download=True), CONTEXT)
    with pytest.raises(ProviderError, match="non-commercial use only; say --accept-license"):
        provider.__enter__()
    assert "non-commercial" in provider.check()


def test_music_flamingo_hears_long_songs_in_its_own_windows(tiny_models: Path, long_song: Track) -> None:
    config = FlamingoConfig(weights=tiny_models, accept_license=True, seconds=70)
    with FlamingoCaptioner(config, CONTEXT) as provider:
        model, asked = provider._model.listener.model, []
        generate = model.generate
        model.generate = lambda **given: asked.append(given["input_features"]) or generate(**given)
        assert provider.describe(long_song, EVERYTHING, never).fields["bpm"] == "92"
    assert asked[0].shape[0] == 3


# Limits


@pytest.mark.parametrize("limit", [3, 30])
def test_no_more_tokens_are_made_than_allowed(babbler: Thinker, tone: Any, limit: int) -> None:
    stop = Counted(1000)
    answer = babbler.ask(tone, ASKED, Effort(seconds=60, max_tokens=limit), COLD, stop)
    assert (answer.cut, answer.tokens) == (True, limit)
    assert stop.asked == 1 + limit  # before the first token, and after each


def test_an_answer_that_ends_by_itself_is_not_cut(tiny_models: Path, song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models, max_tokens=16), CONTEXT) as provider:
        assert provider.describe(song, EVERYTHING, never).doubts == ()


def test_an_answer_that_was_cut_off_is_doubted(tiny_models: Path, song: Track) -> None:
    config = CaptionerConfig(weights=tiny_models / "babble", max_tokens=16)
    with captioner(config, CONTEXT) as provider:
        found = provider.describe(song, frozenset({"caption"}), never)
    assert found.doubts == ("the answer was cut off at 16 tokens",)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_stopping_takes_one_token_at_most(babbler: Thinker, tone: Any, after: int) -> None:
    stop = Counted(after)
    with pytest.raises(Cancelled):
        babbler.ask(tone, ASKED, Effort(seconds=60, max_tokens=400), COLD, stop)
    assert stop.asked == after + 1


@pytest.mark.slow
def test_one_seed_gives_one_answer_and_another_seed_another(tiny_models: Path, song: Track) -> None:
    def describe(seed: int) -> set[str]:
        config = CaptionerConfig(weights=tiny_models / "babble", max_tokens=16, temperature=1.5, seed=seed)
        with captioner(config, CONTEXT) as provider:
            found = [provider.describe(song, frozenset({"caption"}), never) for _ in range(2)]
        return {description.fields["caption"] for description in found}

    assert len(describe(0)) == len(describe(1)) == 1
    assert describe(0) != describe(1)


def test_penalties_count_what_was_answered_and_not_what_was_asked() -> None:
    config = GenerationConfig(repetition_penalty=2, presence_penalty=1, frequency_penalty=0.5)
    scores = torch.tensor([[4.0, 4.0, -4.0, 4.0]])
    made = _Penalties(config, given=2)(torch.tensor([[0, 0, 1, 2, 2]]), scores)
    assert made.tolist() == [[4.0, 4 / 2 - 1.5, -4 * 2 - 2.0, 4.0]]
    assert scores.tolist() == [[4.0, 4.0, -4.0, 4.0]]


def test_a_penalty_ends_repetition(babbler: Thinker, tone: Any) -> None:
    def variety(penalty: float) -> int:
        config = GenerationConfig(temperature=0, repetition_penalty=1, frequency_penalty=penalty)
        answer = babbler.ask(tone, ASKED, Effort(seconds=60, max_tokens=40), config, never)
        return len(set(babbler.tokenizer(answer.text)["input_ids"]))

    assert variety(2.0) > variety(0.0)


# Memory


def test_less_is_heard_when_memory_is_short_and_it_is_said(tiny_models: Path, long_song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models, seconds=50), CONTEXT) as provider:
        memory = scarce(provider, lambda given: heard_seconds(given) < 26)
        found = provider.describe(long_song, frozenset({"caption"}), never)
        assert memory.tried == 2
        assert provider.describe(long_song, frozenset({"caption"}), never).doubts == found.doubts
        assert memory.tried == 3  # what did not fit is not tried again
    assert found.fields["caption"]
    assert found.doubts == ("memory was short: heard only 25 of 100 s",)


@pytest.mark.slow
def test_then_the_answer_is_shortened_and_last_there_is_no_cache(tiny_models: Path, long_song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models, seconds=50, max_tokens=300), CONTEXT) as provider:
        memory = scarce(provider, lambda given: not given["use_cache"])
        found = provider.describe(long_song, frozenset({"caption"}), never)
    assert memory.tried == 5
    assert found.doubts == (
        "memory was short: heard only 12 of 100 s",
        "memory was short: the answer had 150 tokens at most",
        "memory was short: generated without a cache",
    )


def test_memory_that_never_suffices_says_what_would_help(tiny_models: Path, song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models), CONTEXT) as provider:
        scarce(provider, lambda given: False)
        with pytest.raises(ProviderError) as caught:
            provider.describe(song, frozenset({"caption"}), never)
    assert caught.value.kind == "memory"
    assert "cpu ran out of memory, even for 30 s of audio and 320 tokens; try four bits" in str(caught.value)
    assert "--cpu-offload" in str(caught.value)


def test_the_transcriber_leaves_nothing_out_when_memory_is_short(tiny_models: Path, long_song: Track) -> None:
    with Transcriber(TranscriberConfig(weights=tiny_models, seconds=50), CONTEXT) as provider:
        total: list[float] = []
        scarce(provider, lambda given: heard_seconds(given) < 26 and not total.append(heard_seconds(given)))
        found = provider.describe(long_song, frozenset({"lyrics"}), never)
    assert sum(total) == pytest.approx(100, abs=0.2)
    assert found.fields["lyrics"].count("[Chorus]") == len(total) > 2
    assert found.doubts == ("memory was short: heard in pieces of 25 of 100 s",)


def test_another_error_is_no_matter_of_memory(tiny_models: Path, song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models), CONTEXT) as provider:
        provider._model.listener.model.generate = lambda **given: (_ for _ in ()).throw(RuntimeError("a bug"))
        with pytest.raises(RuntimeError, match="a bug"):
            provider.describe(song, frozenset({"caption"}), never)


# Loading


def test_only_what_listens_is_loaded_and_it_is_let_go(tiny_models: Path) -> None:
    provider = captioner(CaptionerConfig(weights=tiny_models), CONTEXT)
    with provider:
        model = provider._model.listener.model
        names = {name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("model.")}
        assert names == {"audio_tower", "language_model"}
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with pytest.raises(ProviderError, match="not loaded"):
        _ = provider._model.listener


def test_four_bits_are_four_bits(tiny_models: Path, song: Track) -> None:
    with four_bit_captioner(CaptionerConfig(weights=tiny_models), CONTEXT) as provider:
        layer = provider._model.listener.model.model.language_model.layers[0]
        assert type(layer.mlp.up_proj).__name__ == "Linear4bit"
        assert layer.mlp.up_proj.weight.quant_state.quant_type == "nf4"
        assert layer.mlp.up_proj.weight.quant_state.nested
        assert provider.describe(song, frozenset({"bpm"}), never).fields == {"bpm": "92"}


def test_layers_may_stay_in_main_memory(tiny_models: Path, song: Track) -> None:
    with captioner(CaptionerConfig(weights=tiny_models, cpu_offload=True), CONTEXT) as provider:
        assert provider.describe(song, frozenset({"caption"}), never).fields["caption"]


def test_checking_loads_nothing(tiny_models: Path) -> None:
    provider = captioner(CaptionerConfig(weights=tiny_models, device="cpu"), CONTEXT)
    assert provider.check() == f"acestep-captioner in '{tiny_models / 'acestep-captioner'}', bfloat16 on cpu"
    with pytest.raises(ProviderError, match="not loaded"):
        _ = provider._model.listener


def test_damaged_weights_are_one_line(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "acestep-captioner"
    folder.mkdir()
    for path in (tiny_models / "acestep-captioner").iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:1000] if path.suffix == ".safetensors" else content)
    with pytest.raises(ProviderError, match="acestep-captioner cannot be loaded: ") as caught:
        captioner(CaptionerConfig(weights=folder), CONTEXT).__enter__()
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named(tiny_models: Path) -> None:
    with pytest.raises(ConfigError, match="no device 'cuda'"):
        captioner(CaptionerConfig(weights=tiny_models, device="cuda"), CONTEXT).check()


def test_each_stage_is_timed(tiny_models: Path, song: Track, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sidestep_captioners")
    with captioner(CaptionerConfig(weights=tiny_models), CONTEXT) as provider:
        provider.describe(song, frozenset({"caption"}), never)
    stages = [record.getMessage().split(" took ")[0] for record in caplog.records]
    assert stages == [f"acestep-captioner: {stage}" for stage in ("loading", "preparing", "generating", "decoding")]


# Input


@pytest.mark.parametrize("seconds", [0.5, 2.0, 7.3])
def test_the_model_finds_as_many_places_as_it_makes_of_the_sound(babbler: Thinker, seconds: float) -> None:
    audio = torch.zeros(int(seconds * 16000)).numpy()
    made = babbler.prepare(audio, ASKED)
    frames = int(made["feature_attention_mask"].sum())
    places = int((made["input_ids"] == babbler.tokenizer.convert_tokens_to_ids("<|AUDIO|>")).sum())
    assert places == audio_tokens(frames) == pytest.approx(25 * seconds, abs=1)
    heard = babbler.model.get_audio_features(
        made["input_features"], feature_attention_mask=made["feature_attention_mask"]
    )
    assert heard.last_hidden_state.shape[0] == places


def test_a_conversation_has_the_form_the_models_were_taught() -> None:
    assert chat("Hi") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_what_is_heard_changes_what_is_said_next(babbler: Thinker, tone: Any) -> None:
    @torch.inference_mode()
    def say(audio: Any) -> torch.Tensor:
        return babbler.model(**babbler.prepare(audio, ASKED)).logits[0, -1].float()

    noise = torch.randn(32000, generator=torch.Generator().manual_seed(1)).numpy()
    assert torch.equal(say(tone), say(tone))
    assert not torch.equal(say(tone), say(noise))
