"""What the plugin says of models that run here, without loading one."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sidestep_captioners.local.specs import LOCAL_PROVIDERS
from sidestep_captioners.local.weights import KNOWN
from sidestep_captioners.stems.specs import SEPARATORS
from sidestep_core.describing.configs import GenerationConfig
from sidestep_core.describing.plan import DESCRIPTION, LYRICS
from sidestep_core.errors import LoadError
from sidestep_core.options import options_of
from sidestep_core.specs import ProviderType, Spec

ROOT = Path(__file__).resolve().parents[2]
SPECS: tuple[Spec, ...] = (*LOCAL_PROVIDERS, *SEPARATORS)


def names(spec: Spec) -> set[str]:
    """Return the names of a component's settings."""
    assert spec.config is not None
    return {option.name for option in options_of(spec.config)}


@pytest.mark.parametrize("spec", LOCAL_PROVIDERS, ids=lambda spec: spec.name)
def test_every_local_provider_works_without_a_network(spec: ProviderType) -> None:
    assert spec.offline
    assert not next(option for option in options_of(spec.config) if option.name == "allow_download").default


@pytest.mark.parametrize("spec", LOCAL_PROVIDERS, ids=lambda spec: spec.name)
def test_the_model_is_one_setting_with_the_published_flag(spec: ProviderType) -> None:
    option = next(option for option in options_of(spec.config) if option.name == "model")
    assert option.flags == ("--ai-model", "--model")
    assert option.default in KNOWN


@pytest.mark.parametrize("spec", LOCAL_PROVIDERS, ids=lambda spec: spec.name)
def test_words_are_chosen_by_the_settings_all_providers_share(spec: ProviderType) -> None:
    assert {option.name for option in options_of(GenerationConfig)} <= names(spec)


def test_captions_and_lyrics_are_both_to_be_had() -> None:
    given = {spec.name: spec.supplies for spec in LOCAL_PROVIDERS}
    for name in ("local_8-10gb", "local_16gb", "music_flamingo_local"):
        assert given[name] >= DESCRIPTION
    assert given["acestep_transcriber"] == LYRICS


def test_ace_steps_own_models_are_the_default() -> None:
    defaults = {spec.name: spec.config().model for spec in LOCAL_PROVIDERS if spec.config is not None}
    assert defaults["local_8-10gb"] == defaults["local_16gb"] == "acestep-captioner"
    assert defaults["acestep_transcriber"] == "acestep-transcriber"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_extra_that_is_named_is_there(spec: Spec) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    distribution, _, extra = spec.extra.partition("[")
    assert distribution == "sidestep-captioners"
    assert extra.removesuffix("]") in extras


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_what_is_missing_is_said_with_the_command_that_brings_it(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidestep_core.specs._installed", lambda distribution: distribution != "torch")
    with pytest.raises(LoadError) as caught:
        spec.load()
    assert str(caught.value) == f"{spec.kind} {spec.name!r} needs torch: pip install '{spec.extra}'"


def test_the_plugin_imports_nothing_heavy() -> None:
    script = (
        "import sys; from sidestep_captioners import plugin; plugin.sidestep_providers(); plugin.sidestep_separators();"
        "heavy = {'torch', 'transformers', 'demucs', 'numpy', 'soxr', 'yaml', 'huggingface_hub'};"
        "print(*sorted(heavy & {*sys.modules}))"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert made.stdout == "\n"
