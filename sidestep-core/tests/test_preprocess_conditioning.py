"""Conditioning equals what ACE-Step's pipeline computes when it generates, or what Side-Step's tensors hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers import AceStepPipeline
from safetensors.torch import save_file
from sidestep_core.configs import PreprocessConfig
from sidestep_core.errors import Cancelled
from sidestep_core.events import Event, Notice, SongRejected
from sidestep_core.model.layout import resolve_model
from sidestep_core.preprocess.condition_pass import encode_conditions
from sidestep_core.preprocess.plan import Entry, Job, make_job, set_prompts
from sidestep_core.preprocess.text_pass import encode_texts, find_missing, text_path
from sidestep_core.songs import Song
from sidestep_core.store.index import conditioning_path
from sidestep_core.store.tensors import read_metadata, read_tensors
from torch import Tensor

LYRICS = "[Verse]\nsoft notes in the morning light\n[Chorus]\nmusic fills the air tonight"


@pytest.fixture
def job(tiny_checkpoint: Path, tmp_path: Path) -> Job:
    """A run on the tiny model with an output of its own."""
    config = PreprocessConfig(audio_dir=tmp_path, tensor_output=tmp_path / "out")
    return make_job(config, resolve_model(tiny_checkpoint, "base"), device="cpu", dtype="fp32", cancelled=lambda: False)


@pytest.fixture(scope="module")
def pipeline(tiny_diffusers: Path) -> Iterator[AceStepPipeline]:
    """diffusers' own pipeline of the same model."""
    with torch.no_grad():
        yield AceStepPipeline.from_pretrained(tiny_diffusers)


def side_step(job: Job) -> Job:
    return attrs.evolve(job, config=attrs.evolve(job.config, conditioning="side-step"))


def entry(name: str = "a.wav", *, seconds: float = 42.7, **fields: Any) -> Entry:
    known: dict[str, Any] = {"caption": "warm hip hop", "lyrics": LYRICS, "instrumental": False, "language": "en"}
    song = Song(path=Path(name), name=name, **(known | fields))
    return Entry(song=song, tag="", tag_position="prepend", use_genre=False, seconds=seconds)


def listed(job: Job, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    for one in entries:
        set_prompts(job, one)
    return find_missing(job, entries)


def run(job: Job, *entries: Entry) -> list[Event]:
    missing = listed(job, entries)
    return [*encode_texts(job, missing), *encode_conditions(job, missing)]


def conditioning(job: Job, made: Entry) -> Tensor:
    return read_tensors(conditioning_path(job.output, made.conditioning_key))["conditioning"]


def generated(pipeline: AceStepPipeline, **prompt: Any) -> Tensor:
    """Return what the pipeline's decoder would attend to."""
    text, text_mask, lyrics, lyrics_mask = pipeline.encode_prompt(device=torch.device("cpu"), **prompt)
    states, mask = pipeline.condition_encoder(
        text_hidden_states=text,
        text_attention_mask=text_mask,
        lyric_hidden_states=lyrics,
        lyric_attention_mask=lyrics_mask,
        refer_audio_acoustic_hidden_states_packed=pipeline.condition_encoder.silence_latent[:, :750],
        refer_audio_order_mask=torch.zeros(1, dtype=torch.long),
    )
    assert mask.all()
    return states[0]


def test_conditioning_is_what_the_pipeline_generates_with(job: Job, pipeline: AceStepPipeline) -> None:
    made = entry(bpm="120", key="C major", signature="4")
    run(job, made)
    expected = generated(
        pipeline,
        prompt="warm hip hop",
        lyrics=LYRICS,
        vocal_language="en",
        audio_duration=42.7,
        bpm=120,
        keyscale="C major",
        timesignature="4",
    )
    torch.testing.assert_close(conditioning(job, made), expected, rtol=1e-5, atol=1e-5)


def test_what_is_unknown_of_a_song_is_as_the_pipeline_has_it(job: Job, pipeline: AceStepPipeline) -> None:
    made = entry(instrumental=True, lyrics="[Instrumental]", language="unknown")
    run(job, made)
    expected = generated(
        pipeline, prompt="warm hip hop", lyrics="[Instrumental]", vocal_language="unknown", audio_duration=42.7
    )
    torch.testing.assert_close(conditioning(job, made), expected, rtol=1e-5, atol=1e-5)


def test_texts_beyond_the_models_limits_are_cut_as_the_pipeline_cuts_them(job: Job, pipeline: AceStepPipeline) -> None:
    long = "\n".join(f"line {n} of a song without an end" for n in range(400))
    made = entry(caption="very " * 300, lyrics=long)
    run(job, made)
    assert made.rows == 256 + 1 + 2048
    expected = generated(pipeline, prompt="very " * 300, lyrics=long, vocal_language="en", audio_duration=42.7)
    torch.testing.assert_close(conditioning(job, made), expected, rtol=1e-5, atol=1e-5)


def test_no_row_is_padding(job: Job, pipeline: AceStepPipeline) -> None:
    made = entry()
    run(job, made)
    tokens = [len(pipeline.tokenizer(text).input_ids) for text in (made.prompt, made.lyrics)]
    assert made.rows == len(conditioning(job, made)) == sum(tokens) + 1


def test_side_steps_mode_has_bare_lyrics_and_one_frame_of_zeros(job: Job, pipeline: AceStepPipeline) -> None:
    made = entry()
    run(side_step(job), made)
    lyrics = pipeline.tokenizer(LYRICS, return_tensors="pt").input_ids
    prompt = pipeline.tokenizer(made.prompt, return_tensors="pt").input_ids
    expected, _ = pipeline.condition_encoder(
        text_hidden_states=pipeline.text_encoder(input_ids=prompt).last_hidden_state,
        text_attention_mask=torch.ones_like(prompt).bool(),
        lyric_hidden_states=pipeline.text_encoder.get_input_embeddings()(lyrics),
        lyric_attention_mask=torch.ones_like(lyrics).bool(),
        refer_audio_acoustic_hidden_states_packed=torch.zeros(1, 1, 64),
        refer_audio_order_mask=torch.zeros(1, dtype=torch.long),
    )
    torch.testing.assert_close(conditioning(job, made), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mode", "limit"), [("inference", 2048), ("side-step", 512)])
def test_cut_lyrics_are_told_with_their_length(job: Job, mode: str, limit: int) -> None:
    job = side_step(job) if mode == "side-step" else job
    made = entry(lyrics="la " * 3000)
    notices = [event for event in run(job, made) if isinstance(event, Notice)]
    assert made.cut_lyrics > 0
    assert [(notice.message, notice.warning) for notice in notices] == [
        (f"the lyrics of 'a.wav' are {limit + made.cut_lyrics} tokens long; the last {made.cut_lyrics} were cut", True)
    ]


def test_cut_lyrics_are_remembered_in_the_file(job: Job) -> None:
    made, again = entry(lyrics="la " * 3000), entry(lyrics="la " * 3000)
    run(job, made)
    assert run(job, again) == []
    assert again.cut_lyrics == made.cut_lyrics
    header = read_metadata(conditioning_path(job.output, made.conditioning_key)) or {}
    assert int(header["cut_lyrics"]) == made.cut_lyrics


def test_a_cut_prompt_is_told(job: Job) -> None:
    (notice,) = (event for event in run(job, entry(caption="very " * 300)) if isinstance(event, Notice))
    assert notice.warning
    assert "the prompt of 'a.wav' is " in notice.message
    assert "shorten its caption" in notice.message


def test_texts_that_fit_are_not_mentioned(job: Job) -> None:
    assert not [event for event in run(job, entry()) if isinstance(event, Notice)]


def test_equal_texts_are_encoded_once_for_all_their_songs(job: Job) -> None:
    first, second = entry("a.wav"), entry("b.wav")
    run(job, first, second)
    assert first.rows == second.rows > 0
    assert len(list((job.output / "conditioning").iterdir())) == 1


def test_the_header_tells_what_made_it(job: Job) -> None:
    made = entry()
    run(job, made)
    header = read_metadata(conditioning_path(job.output, made.conditioning_key)) or {}
    assert header["key"] == made.conditioning_key
    assert (header["conditioning"], header["model"], header["dtype"]) == ("inference", job.model_id, "fp32")
    assert (header["prompt"], header["lyrics"], header["rows"]) == (made.prompt, made.lyrics, str(made.rows))


def test_conditioning_is_stored_in_the_compute_dtype(job: Job) -> None:
    made = entry()
    job = attrs.evolve(job, dtype="bf16")
    run(job, made)
    assert conditioning(job, made).dtype == torch.bfloat16


def test_texts_of_an_interrupted_run_are_used(job: Job) -> None:
    entries = [entry("a.wav"), entry("b.wav", caption="other")]
    asked = iter([False, True])
    stopped = attrs.evolve(job, cancelled=lambda: next(asked))
    with pytest.raises(Cancelled):
        list(encode_texts(stopped, listed(job, entries)))
    left = text_path(job, entries[0].conditioning_key)
    written = left.stat().st_mtime_ns
    run(job, *entries)
    assert left.stat().st_mtime_ns == written
    assert all(made.rows for made in entries)


def test_conditioning_that_is_not_finite_rejects_its_songs(job: Job) -> None:
    entries = [entry("a.wav"), entry("b.wav"), entry("c.wav", caption="other")]
    missing = listed(job, entries)
    list(encode_texts(job, missing))
    # as an overflow in half precision would leave it
    save_file(
        {"text": torch.full((3, 64), float("nan")), "lyrics": torch.zeros(2, 64)},
        text_path(job, entries[0].conditioning_key),
        {"cut_lyrics": "0", "cut_prompt": "0"},
    )
    events = list(encode_conditions(job, missing))
    rejected = [event for event in events if isinstance(event, SongRejected)]
    assert [event.name for event in rejected] == ["a.wav", "b.wav"]
    assert rejected[0].reason == "the conditioning of this song would not be finite"
    assert entries[2].rows > 0
