"""A trained adapter gives the trained model's output in the programs it was exported for, run by their own code."""

from pathlib import Path

import attrs
import peft
import pytest
import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel
from diffusers.models.transformers.ace_step_transformer import AceStepAttention
from sidestep_adapters.configs import LoraConfig
from sidestep_adapters.lora import LoraAdapter
from sidestep_core.configs import TargetsConfig
from sidestep_core.interfaces import ExportRequest
from sidestep_core.model.dims import projection_shapes
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_decoder
from sidestep_core.specs import BuildContext
from sidestep_core.targets import choose_targets
from sidestep_exporters.diffusers import DiffusersExporter
from sidestep_exporters.native import NativeExporter
from torch import nn

TARGETS = {
    "attention and MLP": TargetsConfig(),
    "MLP alone": TargetsConfig(target_modules=()),
    "v and o alone": TargetsConfig(target_modules=("v_proj", "o_proj"), target_mlp=False),
}


@attrs.frozen(eq=False)
class Trained:
    folder: Path
    modules: int
    inputs: dict[str, torch.Tensor]
    before: torch.Tensor
    output: torch.Tensor

    def is_given_by(self, transformer: nn.Module) -> bool:
        """Whether a host's own forward pass gives the trained output."""
        with torch.no_grad():
            output = transformer(**self.inputs, return_dict=False)[0]
        return bool((output - self.output).abs().max() <= 1e-5 * self.output.abs().max())


@pytest.fixture(scope="module", params=TARGETS)
def trained(request, tiny_checkpoint, tmp_path_factory) -> Trained:
    model = resolve_model(tiny_checkpoint, "base")
    decoder = load_decoder(model)
    targets = choose_targets(projection_shapes(model.dims), TARGETS[request.param])
    some = [attrs.evolve(target, rank=3, alpha=7) if i % 5 == 0 else target for i, target in enumerate(targets)]
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 60, 64, generator=generator)
    rows = torch.randn(2, 9, model.dims.condition_size, generator=generator)
    t = torch.tensor([0.2, 0.9])
    before = decoder(noisy, t, rows)
    adapter = LoraAdapter(LoraConfig(rank=4, alpha=10, dropout=0.0), BuildContext(seed=1))
    adapter.attach(decoder, some)
    optimizer = torch.optim.Adam(adapter.groups(1e-2))
    for _ in range(4):
        decoder(noisy, t, rows).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("run") / "final"
    adapter.save(folder, metadata={"run": "r1"})
    silence = decoder.silence[:60].expand(2, -1, -1)
    inputs = dict(
        hidden_states=noisy,
        timestep=t,
        timestep_r=t,
        encoder_hidden_states=rows,
        context_latents=torch.cat([silence, torch.ones_like(silence)], dim=-1),
    )
    return Trained(folder, len(targets), inputs, before.detach(), decoder(noisy, t, rows).detach())


@pytest.fixture
def transformer(tiny_diffusers) -> AceStepTransformer1DModel:
    return AceStepTransformer1DModel.from_pretrained(tiny_diffusers / "transformer").eval()


@pytest.fixture
def pipeline(tiny_diffusers, transformer) -> AceStepPipeline:
    parts = ("vae", "text_encoder", "tokenizer", "condition_encoder", "audio_tokenizer", "audio_token_detokenizer")
    return AceStepPipeline.from_pretrained(tiny_diffusers, transformer=transformer, **dict.fromkeys(parts))


class OriginalAttention(AceStepAttention):
    """Diffusers' attention on projections that have ACE-Step's names."""

    to_q = property(lambda self: self.q_proj)
    to_k = property(lambda self: self.k_proj)
    to_v = property(lambda self: self.v_proj)
    to_out = property(lambda self: (self.o_proj, nn.Identity()))


def original_names(transformer: nn.Module) -> nn.Module:
    for attention in [m for m in transformer.modules() if isinstance(m, AceStepAttention)]:
        attention.o_proj = attention._modules.pop("to_out")[0]
        for letter in "qkv":
            attention.add_module(f"{letter}_proj", attention._modules.pop(f"to_{letter}"))
        attention.__class__ = OriginalAttention
    return transformer


def test_training_made_a_difference(trained):
    assert (trained.output - trained.before).abs().max() > 1e-2 * trained.before.abs().max()


def test_without_the_adapter_a_host_gives_something_else(trained, transformer):
    assert not trained.is_given_by(transformer)


def test_the_saved_folder_works_in_peft_on_the_original_names(trained, transformer):
    host = peft.PeftModel.from_pretrained(original_names(transformer), trained.folder)
    assert trained.is_given_by(host)


def test_the_native_export_works_in_peft_on_the_original_names(trained, transformer, tmp_path):
    report = NativeExporter(None, BuildContext()).export(ExportRequest(adapter=trained.folder, output=tmp_path / "out"))
    host = peft.PeftModel.from_pretrained(original_names(transformer), report.paths[0])
    assert report.modules == trained.modules
    assert trained.is_given_by(host)


def test_the_diffusers_export_works_in_the_pipeline(trained, pipeline, tmp_path):
    request = ExportRequest(adapter=trained.folder, output=tmp_path / "out")
    report = DiffusersExporter(None, BuildContext()).export(request)
    pipeline.load_lora_weights(report.paths[0].parent)
    assert report.modules == trained.modules
    assert trained.is_given_by(pipeline.transformer)


@pytest.mark.parametrize("trained", ["attention and MLP"], indirect=True)
def test_the_saved_folder_works_in_the_pipeline_too(trained, pipeline):
    pipeline.load_lora_weights(trained.folder)
    assert trained.is_given_by(pipeline.transformer)


@pytest.mark.parametrize("trained", ["MLP alone", "v and o alone"], indirect=True)
def test_the_native_export_says_when_diffusers_would_ignore_it(trained, tmp_path):
    report = NativeExporter(None, BuildContext()).export(ExportRequest(adapter=trained.folder, output=tmp_path / "out"))
    assert "--target diffusers" in report.notes[0]


def test_a_known_model_is_the_tree_of_the_proof(trained, tiny_checkpoint, tmp_path):
    model = resolve_model(tiny_checkpoint, "base")
    request = ExportRequest(adapter=trained.folder, output=tmp_path / "out", model=model)
    for exporter in (NativeExporter, DiffusersExporter):
        assert exporter(None, BuildContext()).export(request).error <= 1e-5
