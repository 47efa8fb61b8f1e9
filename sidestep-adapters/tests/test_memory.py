"""The memory estimate of every adapter type and optimizer against what two real steps take."""

import attrs
import pytest
from sidestep_adapters.configs import LohaConfig, LokrConfig, LoraConfig
from sidestep_adapters.plugin import sidestep_adapters
from sidestep_core.fitting import Machine, fit
from sidestep_core.model.layout import resolve_model
from sidestep_core.requests import Chosen
from sidestep_core.testing.tiny_run import tiny_components, tiny_plan, write_noise
from sidestep_core.training.measure import measure

TYPES = {spec.name: spec for spec in sidestep_adapters()}
OPTIMIZERS = ["adamw", "adamw8bit", "adafactor", "prodigy", "lion", "schedule_free"]
every_type = pytest.mark.parametrize("name", TYPES)


@pytest.fixture(scope="module")
def wide(make_checkpoint):
    return make_checkpoint(hidden=512, layers=4, window=128)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A function that returns a tensor folder with one song of a length."""
    made = {}

    def get(checkpoint, frames):
        if (checkpoint, frames) not in made:
            folder = tmp_path_factory.mktemp("store")
            model = resolve_model(checkpoint, "base")
            made[checkpoint, frames] = write_noise(folder, model, frames=[frames], rows=[120])
        return made[checkpoint, frames]

    return get


@pytest.fixture
def compared(tmp_path, stores):
    """A function that returns the estimate without its overhead, and what two steps took."""

    def compare(checkpoint, name, optimizer="adamw", *, precision="fp32", frames=400, config=None, **tables):
        spec = TYPES[name]
        parts = tiny_components(optimizer=optimizer)
        parts = attrs.evolve(parts, adapter=Chosen(spec=spec, config=config or spec.config()))
        plan = tiny_plan(checkpoint, stores(checkpoint, frames), tmp_path / "run", parts, **tables)
        machine = Machine(device="cpu", precision=precision, free=2**40)
        fits = fit(plan, machine)
        return fits.total - fits.memory.overhead, measure(plan, machine, fits.recomputed)

    return compare


def check(pair):
    expected, measured = pair
    assert expected == pytest.approx(measured, rel=0.1)


@every_type
def test_every_type_takes_what_is_estimated(compared, tiny_checkpoint, name):
    check(compared(tiny_checkpoint, name, "adamw"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:])
def test_every_optimizer_takes_what_is_estimated(compared, tiny_checkpoint, optimizer):
    check(compared(tiny_checkpoint, "lora", optimizer))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("lora", LoraConfig(rank=16, dropout=0.0)),
        ("lora", LoraConfig(rank=16, init_weights="pissa")),
        ("lokr", LokrConfig(rank=2, weight_decompose=True)),
        ("loha", LohaConfig(rank=2)),
    ],
)
def test_every_form_takes_what_is_estimated(compared, tiny_checkpoint, name, config):
    check(compared(tiny_checkpoint, name, config=config, precision="bf16"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "adafactor"])
@every_type
def test_every_type_with_every_optimizer(compared, tiny_checkpoint, name, optimizer, ratio, precision):
    memory = {"gradient_checkpointing_ratio": ratio}
    check(compared(tiny_checkpoint, name, optimizer, precision=precision, frames=1500, memory=memory))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "adafactor"])
@every_type
def test_a_model_500_wide(compared, wide, name, optimizer, precision):
    check(compared(wide, name, optimizer, precision=precision, frames=750))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [{"quantize_base": "int8"}, {"quantize_base": "nf4", "block_swap": 3}])
@every_type
def test_a_model_500_wide_in_little_memory(compared, wide, name, memory):
    check(compared(wide, name, "adafactor", precision="bf16", frames=750, memory=memory))
