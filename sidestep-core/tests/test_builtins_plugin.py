"""The core's own plugin: what it offers and how little it imports."""

import pytest
from sidestep_core.builtins import plugin
from sidestep_core.plugins import Plugins
from sidestep_core.testing.contracts import PluginContract


class TestCorePlugin(PluginContract):
    plugin = "sidestep_core.builtins.plugin"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("timestep-sampler", ["adaptive", "continuous", "discrete"]),
        (
            "lr-controller",
            ["constant", "constant_with_warmup", "cosine", "cosine_restarts", "cruise", "custom", "linear"],
        ),
        ("optimizer", ["adafactor", "adamw", "adamw8bit", "auto", "lion", "prodigy", "schedule_free"]),
        ("observer", ["progress", "tensorboard"]),
    ],
)
def test_the_core_offers(kind, names):
    registry = Plugins(entry_points=False, extra={"core": plugin}).registries[kind]
    assert sorted(registry) == names


@pytest.mark.parametrize(
    ("name", "rate"), [("prodigy", 1.0), ("lion", 1e-4), ("adamw", None), ("adamw8bit", None), ("adafactor", None)]
)
def test_optimizers_with_a_usual_rate_of_their_own_say_so(name, rate):
    specs = {spec.name: spec for spec in plugin.sidestep_optimizers()}
    assert specs[name].default_learning_rate == rate


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("gemini", "GEMINI_API_KEY"),
        ("openai", "OPENAI_API_KEY"),
        ("genius", "GENIUS_API_TOKEN"),
        ("huggingface", "HF_TOKEN"),
    ],
)
def test_a_secret_comes_from_the_variable_of_its_service(monkeypatch, service, variable):
    monkeypatch.setenv(variable, "s3cret")
    assert plugin.sidestep_secret(service) == "s3cret"


def test_a_service_without_a_variable_has_no_secret():
    assert plugin.sidestep_secret("unheard-of") is None


def test_an_empty_variable_is_no_secret(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "")
    assert plugin.sidestep_secret("gemini") is None
