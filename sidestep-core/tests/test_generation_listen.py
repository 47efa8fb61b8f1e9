"""Hearing an adapter outside training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from sidestep_core.configs import SoundConfig
from sidestep_core.errors import AdapterError, ConfigError
from sidestep_core.events import Event, Notice, PreviewMade, StageStarted
from sidestep_core.formats.peft_files import peft_files
from sidestep_core.formats.updates import LowRank
from sidestep_core.generation.adapted import add_deltas
from sidestep_core.generation.listen import Listening, listen
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import ModelFolder, identity, resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.model.names import module_path

SOUND = SoundConfig(prompt="warm hip hop", seconds=1, steps=2)
ADAPTED = ("layers.0.self_attn.q_proj", "layers.3.mlp.down_proj")


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> ModelFolder:
    return resolve_model(tiny_checkpoint, "base")


def low_rank(model: ModelFolder, name: str) -> LowRank:
    out, in_ = projection_shapes(model.dims)[name]
    generator = torch.Generator().manual_seed(len(name))
    down, up = torch.randn(2, in_, generator=generator), torch.randn(out, 2, generator=generator)
    return LowRank(name=name, down=down, up=0.1 * up)


@pytest.fixture
def adapter(model: ModelFolder, tmp_path: Path) -> Path:
    """An adapter trained on this model."""
    return write_adapter(tmp_path / "adapter", model, base_identity=identity(model), base_model=model.name)


def write_adapter(folder: Path, model: ModelFolder, **metadata: str) -> Path:
    folder.mkdir()
    for name, content in peft_files([low_rank(model, name) for name in ADAPTED], metadata).items():
        (folder / name).write_bytes(content)
    return folder


def heard(model: ModelFolder, output: Path, sound: SoundConfig = SOUND, **wanted: Any) -> list[Event]:
    settings = {"adapter": None, "compare": False, "device": "cpu", "dtype": "fp32", **wanted}
    return list(listen(Listening(sound=sound, output=output, **settings), model))


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found


def test_a_prompt_becomes_audio(model: ModelFolder, tmp_path: Path) -> None:
    output = tmp_path / "new" / "a.flac"
    events = heard(model, output)
    assert [event.stage for event in events if isinstance(event, StageStarted)] == ["prompt", "generate", "decode"]
    last = events[-1]
    assert isinstance(last, PreviewMade)
    assert last.paths == (output,)
    assert soundfile.info(output).frames == 48_000
    facts = told(output)
    assert "# Caption\nwarm hip hop\n" in facts["prompt"]
    assert (facts["adapter"], facts["steps"], facts["guidance"], facts["model"]) == (False, 2, 7.0, "acestep-v15-base")


def test_the_seed_decides(model: ModelFolder, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        heard(model, tmp_path / f"{name}.flac", SoundConfig(prompt="p", seconds=1, steps=1, seed=seed))
    a, b, c = ((tmp_path / f"{name}.flac").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_an_adapter_is_heard_beside_the_model_alone(model: ModelFolder, adapter: Path, tmp_path: Path) -> None:
    heard(model, tmp_path / "alone.flac")
    events = heard(model, tmp_path / "both.flac", adapter=adapter, compare=True)
    assert isinstance(events[-1], PreviewMade)
    off, on = events[-1].paths
    assert (off.name, on.name) == ("both_without.flac", "both.flac")
    assert off.read_bytes() == (tmp_path / "alone.flac").read_bytes()
    assert on.read_bytes() != off.read_bytes()
    assert (told(off)["adapter"], told(on)["adapter"]) == (False, str(adapter))


def test_without_a_comparison_only_the_adapter_is_heard(model: ModelFolder, adapter: Path, tmp_path: Path) -> None:
    heard(model, tmp_path / "both.flac", adapter=adapter, compare=True)
    heard(model, tmp_path / "on.flac", adapter=adapter)
    assert sorted(path.name for path in tmp_path.glob("on*")) == ["on.flac", "on.json"]
    assert (tmp_path / "on.flac").read_bytes() == (tmp_path / "both.flac").read_bytes()


def test_weight_differences_act_as_if_they_were_added(model: ModelFolder) -> None:
    beside, merged = load_decoder(model), load_decoder(model)
    changes = {name: low_rank(model, name).delta() for name in ADAPTED}
    add_deltas(beside, changes.items())
    for name, delta in changes.items():
        merged.transformer.get_submodule(module_path(name)).weight.data += delta
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(1, 40, 64, generator=generator), torch.tensor([0.5]), torch.randn(1, 5, 64, generator=generator)
    with torch.no_grad():
        before = load_decoder(model)(*given)
        torch.testing.assert_close(beside(*given), merged(*given), rtol=1e-5, atol=1e-5)
        assert (beside(*given) - before).abs().max() > 1e-3


def test_small_differences_are_not_lost_in_a_model_of_few_digits(model: ModelFolder) -> None:
    decoder = load_decoder(model, dtype=torch.bfloat16)
    name = "layers.0.self_attn.q_proj"
    weight = decoder.transformer.get_submodule(module_path(name)).weight
    delta = 1e-4 * weight.float()  # less than the last digit of any weight
    assert (weight.float() + delta).bfloat16().equal(weight)
    add_deltas(decoder, [(name, delta)])
    layer = decoder.transformer.get_submodule(module_path(name))
    assert float(layer.delta.float().norm()) == pytest.approx(float(delta.norm()), rel=1e-2)


@pytest.mark.parametrize(
    ("name", "shape", "fault"),
    [("layers.9.self_attn.q_proj", (64, 64), "is not there"), (ADAPTED[0], (64, 32), r"is \(64, 64\)")],
)
def test_an_adapter_of_another_model_is_refused(
    model: ModelFolder, name: str, shape: tuple[int, int], fault: str
) -> None:
    with pytest.raises(AdapterError, match=f"does not fit the model: '{name}' {fault}"):
        add_deltas(load_decoder(model), [(name, torch.zeros(shape))])


def test_an_adapter_trained_on_another_model_is_warned_of(model: ModelFolder, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", model, base_identity="other", base_model="acestep-v15-sft")
    first = heard(model, tmp_path / "a.flac", adapter=folder)[0]
    assert first == Notice(
        message="the adapter was trained on acestep-v15-sft, not on acestep-v15-base; choose the model with --model",
        warning=True,
    )


def test_the_prompt_has_the_shape_that_the_adapter_was_trained_with(model: ModelFolder, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", model, conditioning="side-step")
    heard(model, tmp_path / "a.flac", SoundConfig(prompt="p", lyrics="la", seconds=1, steps=1), adapter=folder)
    assert told(tmp_path / "a.flac")["lyrics"] == "la"


@pytest.mark.parametrize(
    ("name", "sound", "compare", "fault"),
    [
        ("a.flac", SoundConfig(), False, "give --prompt"),
        ("a.wav", SOUND, False, "must end in .flac"),
        ("a.flac", SOUND, True, "give --adapter"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_loaded(
    model: ModelFolder, tmp_path: Path, name: str, sound: SoundConfig, compare: bool, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        heard(model, tmp_path / name, sound, compare=compare)
    assert list(tmp_path.iterdir()) == []


def test_a_description_that_contradicts_the_tensors_is_said_before_anything_is_loaded(
    model: ModelFolder, adapter: Path, tmp_path: Path
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    listening = Listening(
        sound=SOUND, output=tmp_path / "a.flac", adapter=adapter, compare=False, device="cpu", dtype="fp32"
    )
    with pytest.raises(AdapterError, match="says LORA with use_dora, the tensors are of lora"):
        next(listen(listening, model))


def test_an_adapter_that_is_not_there_is_said_before_anything_is_loaded(model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter at"):
        heard(model, tmp_path / "a.flac", adapter=tmp_path / "none")
