"""Components of a distribution that is not ours, used from the command line as its users would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors import safe_open

HOOKS = """
    from pathlib import Path

    from sidestep_core import config, hookimpl, option
    from sidestep_core.specs import (
        AdapterType, ExporterType, LRControllerType, ObserverType, OptimizerType, TimestepSamplerType
    )

    sidestep_api = 1


    @config
    class HoldConfig:
        share: float = option(default=1.0, at_least=0, at_most=1, help="Share of the peak.")


    @config
    class PlainSgdConfig:
        momentum: float = option(default=0.0, at_least=0, below=1, help="Momentum.")


    @config
    class DiaryConfig:
        page: str = option(default="diary.txt", help="File in the run folder.")


    @config
    class HookedConfig:
        width: int = option(default=2, at_least=1, help="Width of the two matrices.")


    @config
    class ClashConfig:
        epochs: int = option(default=3, at_least=1, help="Not the epochs of the run.")


    def count_hooked(config, out_features, in_features, rank):
        return (rank or config.width) * (out_features + in_features)


    @hookimpl
    def sidestep_adapters():
        return [
            AdapterType(name="hooked", summary="B @ A by forward hooks", target="wave_parts:Hooked",
                        config=HookedConfig, format="hooked", count=count_hooked),
        ]


    @hookimpl
    def sidestep_timestep_samplers():
        return [TimestepSamplerType(name="clash", summary="Halves", target="wave_parts:Halves", config=ClashConfig)]


    @hookimpl
    def sidestep_lr_controllers():
        return [
            LRControllerType(name="hold", summary="A share of the peak", target="wave_parts:Hold", config=HoldConfig),
            LRControllerType(name="late", summary="Another share", target="wave_parts:Hold", config=HoldConfig),
            LRControllerType(name="again", summary="Epochs", target="wave_parts:Hold", config=ClashConfig),
        ]


    @hookimpl
    def sidestep_optimizers():
        return [OptimizerType(name="plain_sgd", summary="Plain descent", target="wave_parts:PlainSgd",
                              config=PlainSgdConfig, bytes_per_parameter=4.0)]


    @hookimpl
    def sidestep_observers():
        return [
            ObserverType(name="diary", summary="Writes a diary", target="wave_parts:Diary", config=DiaryConfig),
            ObserverType(name="rude", summary="Always fails", target="wave_parts:Rude"),
        ]


    @hookimpl
    def sidestep_exporters():
        return [
            ExporterType(name="card", summary="What it was asked", target="wave_parts:Card"),
            ExporterType(name="hooked_file", summary="One file", target="wave_parts:HookedFile",
                         accepts=frozenset({"hooked"})),
            ExporterType(name="refuses", summary="Holds nothing", target="wave_parts:Refuses"),
            ExporterType(name="unproven", summary="Reads back wrong", target="wave_parts:Unproven"),
            ExporterType(name="unbuilt", summary="Cannot be made", target="wave_parts:Unbuilt"),
            ExporterType(name="lost", summary="Is nowhere", target="wave_parts:Nothing"),
            ExporterType(name="far", summary="Needs much", target="wave_parts:Card", needs=("no-such-library",)),
            ExporterType(name="further", summary="Needs more", target="wave_parts:Card",
                         needs=("no-such-library", "nor-this"), extra="sidestep-wave[far]"),
        ]


    @hookimpl
    def sidestep_presets():
        return [Path(__file__).with_name("gentle.toml")]
"""
PARTS = """
    import contextlib
    import functools
    import json
    from pathlib import Path

    from sidestep_core.errors import AdapterError, ExportError, ProofError
    from sidestep_core.interfaces import ExportReport


    class Hold:
        def __init__(self, config, context):
            self.share, self.seen = getattr(config, "share", 1.0), 0

        def scale(self, progress):
            return self.share

        def observe(self, loss, step):
            self.seen += 1

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = state["seen"]


    class PlainSgd:
        def __init__(self, config, context):
            self.momentum = config.momentum

        def create(self, groups):
            import torch

            return torch.optim.SGD(list(groups), momentum=self.momentum)


    class Halves:
        def __init__(self, config, context):
            pass

        def sample(self, batch_size, *, generator):
            import torch

            return torch.full((batch_size,), 0.5)


    class Diary:
        def __init__(self, config, context):
            self.path, self.lines = context.run / config.page, []

        def observe(self, event):
            self.lines.append(type(event).__name__)

        def close(self):
            self.path.write_text("\\n".join([*self.lines, "closed"]), "utf-8")


    class Rude:
        def __init__(self, config, context):
            pass

        def observe(self, event):
            raise RuntimeError("I do not care for events")

        def close(self):
            pass


    class Hooked:
        def __init__(self, config, context):
            self.width, self.seed, self.factors, self.on = config.width, context.seed, {}, True

        def attach(self, decoder, targets):
            import torch
            from sidestep_core.model.names import module_path

            decoder.requires_grad_(False)
            generator = torch.Generator().manual_seed(self.seed)
            for target in targets:
                rank = target.rank or self.width
                down = torch.nn.Parameter(torch.randn(rank, target.in_features, generator=generator))
                up = torch.nn.Parameter(torch.zeros(target.out_features, rank))
                self.factors[target.name] = (down, up)
                layer = decoder.get_submodule(f"transformer.{module_path(target.name)}")
                layer.register_forward_hook(functools.partial(self._add, down=down, up=up))

        def _add(self, layer, inputs, output, *, down, up):
            return output + (inputs[0].float() @ down.T @ up.T).to(output.dtype) if self.on else output

        @contextlib.contextmanager
        def disabled(self):
            self.on = False
            try:
                yield
            finally:
                self.on = True

        def parameters(self):
            return [(f"{name}.{part}", pair[part]) for name, pair in self.factors.items() for part in (0, 1)]

        def groups(self, learning_rate):
            return [{"params": [parameter for _, parameter in self.parameters()], "lr": learning_rate}]

        def state_dict(self):
            return {name: parameter.detach() for name, parameter in self.parameters()}

        def load_state_dict(self, state):
            if wrong := state.keys() ^ self.state_dict().keys():
                raise AdapterError(f"state does not fit: {sorted(wrong)}")
            for name, own in self.state_dict().items():
                own.copy_(state[name])

        def save(self, folder, *, metadata):
            from sidestep_core.tensor_files import tensor_bytes

            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "hooked.safetensors"
            path.write_bytes(tensor_bytes(self.state_dict(), {**metadata, "format": "hooked"}))
            return [path]

        def deltas(self):
            return ((name, (up @ down).detach()) for name, (down, up) in self.factors.items())


    class HookedFile:
        def __init__(self, config, context):
            pass

        def export(self, request):
            from safetensors.torch import load_file

            tensors = load_file(request.adapter / "hooked.safetensors")
            names = {key.rpartition(".")[0] for key in tensors}
            sizes = {n: float((tensors[f"{n}.1"] @ tensors[f"{n}.0"]).norm()) for n in sorted(names)}
            path = request.output or request.adapter.parent / "hooked.json"
            path.write_text(json.dumps(sizes), "utf-8")
            return ExportReport(paths=(path,), modules=len(names), error=0.0, reader="json", notes=("a note",))


    class Card:
        def __init__(self, config, context):
            pass

        def export(self, request):
            path = request.output or request.adapter.parent / "card.json"
            asked = {"adapter": str(request.adapter), "dtype": request.dtype, "verify": request.verify,
                     "model": request.model and request.model.name}
            path.write_text(json.dumps(asked), "utf-8")
            return ExportReport(paths=(path,), modules=1)


    class Refuses(Card):
        def export(self, request):
            raise ExportError("the card is too small")


    class Unproven(Card):
        def export(self, request):
            raise ProofError("the card reads back as something else")


    class Unbuilt:
        def __init__(self, config, context):
            raise ValueError("no bricks")
"""
PRESET = """
    description = "Gentle: width 2 on queries only"

    [adapter]
    type = "hooked"
    width = 3

    [targets]
    target_modules = ["q_proj"]
    target_mlp = false

    [optimizer]
    type = "plain_sgd"
    momentum = 0.5

    [run]
    log_every = 1
"""
# two distributions that offer a sampler and a controller of one name, each with a setting of its own
WAVE = """
    from sidestep_core import config, hookimpl, option
    from sidestep_core.specs import ExporterType, LRControllerType, TimestepSamplerType

    sidestep_api = 1


    @config
    class WaveConfig:
        {setting}: float = option(default={default}, help="A measure.")


    @hookimpl
    def sidestep_timestep_samplers():
        return [TimestepSamplerType(name="wave", summary="Made up", target="{module}:Wave", config=WaveConfig)]


    @hookimpl
    def sidestep_lr_controllers():
        return [LRControllerType(name="wave", summary="Made up", target="{module}:Wave", config=WaveConfig)]


    @hookimpl
    def sidestep_exporters():
        return [ExporterType(name="wave", summary="Made up", target="{module}:Wave")]


    class Wave:
        def __init__(self, config, context):
            self.config = config

        def scale(self, progress):
            return self.config.{setting}

        def export(self, request):
            from sidestep_core.interfaces import ExportReport

            return ExportReport(paths=(request.adapter / "{module}",), modules=1)
"""


def write_code(path: Path, code: str) -> None:
    path.write_text(textwrap.dedent(code).lstrip(), "utf-8")


def register(site: Path, distribution: str, entry_points: str) -> None:
    """Write the metadata that installing a wheel would."""
    info = site / f"{distribution.replace('-', '_')}-0.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.5\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[sidestep]\n{entry_points}\n", "utf-8")


class Place:
    """A working folder with ./checkpoints, ./tensors and ./adapter, in which the distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def python(self, *args: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(self.folder / "site"), os.environ.get("PYTHONPATH"))))
        variables = {"PYTHONPATH": path, "COLUMNS": "100", "SIDESTEP_CONFIG_DIR": str(self.folder / "config")}
        return subprocess.run(
            [sys.executable, *args], capture_output=True, text=True, cwd=self.folder, env={**os.environ, **variables}
        )

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "sidestep_cli", *args)

    def train(self, run: str, *args: str) -> subprocess.CompletedProcess[str]:
        settings = ("--device", "cpu", "--warmup-steps", "0", "--lr", "0.01", "--log-every", "1")
        return self.run("train", "--dataset-dir", "tensors", "--output-dir", run, *settings, *args)

    def plan(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run("train", "--dataset-dir", "tensors", "--output-dir", "planned", "--dry-run", *args)

    def lines(self, run: str, kind: str) -> list[dict[str, object]]:
        text = (self.folder / run / "progress.jsonl").read_text("utf-8")
        return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]

    def request(self, run: str) -> Mapping[str, object]:
        return json.loads((self.folder / run / "run.json").read_text("utf-8"))["request"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_checkpoint) -> Place:
    from sidestep_core.model.layout import resolve_model
    from sidestep_core.testing.tiny_run import write_noise

    folder = tmp_path_factory.mktemp("place")
    (folder / "checkpoints").symlink_to(tiny_checkpoint)
    (folder / "adapter").mkdir()
    write_noise(folder / "tensors", resolve_model(tiny_checkpoint, "base"), frames=(20, 25, 30))
    site = folder / "site"
    site.mkdir()
    write_code(site / "wave_hooks.py", HOOKS)
    write_code(site / "wave_parts.py", PARTS)
    write_code(site / "gentle.toml", PRESET)
    register(site, "sidestep-wave", "wave = wave_hooks")
    for name, setting, default in (("one", "height", "0.5"), ("two", "length", "0.25")):
        module = f"sidestep_{name}"
        code = textwrap.dedent(WAVE).format(setting=setting, default=default, module=module)
        (site / f"{module}.py").write_text(code, "utf-8")
        register(site, f"sidestep-{name}", f"{name} = {module}")
    return Place(folder)


@pytest.fixture(scope="module")
def finished(place) -> subprocess.CompletedProcess[str]:
    """A run of the preset, with the controller and both observers on top."""
    chosen = ("--preset", "gentle", "--scheduler-type", "hold", "--share", "0.5", "--observe", "rude")
    return place.train("run", *chosen, "--observe", "diary", "--page", "notes.txt", "--max-steps", "3")


def test_the_plugin_offers_all_of_it(place):
    records = {r["name"]: r for r in json.loads(place.run("plugins", "list", "--json").stdout)}
    kinds = {offer["kind"] for offer in records["wave"]["offers"]}
    assert records["wave"]["status"] == "ok"
    assert kinds == {"adapter", "timestep-sampler", "lr-controller", "optimizer", "observer", "exporter"}


def test_the_plugin_passes_the_check(place):
    result = place.run("plugins", "check", "wave_hooks")
    assert "importing it imports" not in result.stdout


def test_a_run_with_third_party_components_ends_well(place, finished):
    assert finished.returncode == 0, finished.stderr
    assert place.lines("run", "complete")[0]["step"] == 3


def test_the_controllers_factor_is_on_the_rate(place, finished):
    assert [line["lr"] for line in place.lines("run", "step")] == [pytest.approx(0.005)] * 3


def test_the_controllers_own_state_is_in_the_checkpoint(place, finished):
    state = json.loads((place.folder / "run/checkpoints/step_3/state.json").read_text("utf-8"))
    assert {"seen": 3} in [*state["controllers"].values()]


def test_the_optimizers_own_state_is_in_the_checkpoint(place, finished):
    with safe_open(place.folder / "run/checkpoints/step_3/optimizer.safetensors", "pt") as file:
        assert {key.rpartition(".")[2] for key in file.keys()} == {"momentum_buffer"}  # noqa: SIM118


def test_the_record_has_the_settings_of_every_component(place, finished):
    request = place.request("run")
    assert request["adapter"] == {"type": "hooked", "width": 3}
    assert request["optimizer"] == {"type": "plain_sgd", "momentum": 0.5}


def test_an_observer_sees_every_event_and_is_closed(place, finished):
    seen = (place.folder / "run/notes.txt").read_text("utf-8").split()
    assert [seen.count(name) for name in ("RunStarted", "StepsDone", "RunFinished", "closed")] == [1, 3, 1, 1]
    assert seen[-2:] == ["RunFinished", "closed"]


def test_an_observer_that_raises_is_reported_once_with_its_reason(finished):
    assert finished.stderr.count("observer Rude failed and is dropped for this run") == 1
    assert finished.stderr.count("RuntimeError: I do not care for events") == 1


def test_an_adapter_type_by_hooks_is_trained_on_the_chosen_projections(place, finished):
    with safe_open(place.folder / "run/final/hooked.safetensors", "pt") as file:
        names = {key.rpartition(".")[0] for key in file.keys()}  # noqa: SIM118
        moved = [float(file.get_tensor(f"{name}.1").abs().max()) for name in names]
    assert len(names) == 8
    assert all(name.endswith("_attn.q_proj") for name in names)
    assert all(moved)


@pytest.mark.slow
def test_a_run_with_third_party_components_is_resumed(place, finished):
    chosen = ("--preset", "gentle", "--scheduler-type", "hold", "--share", "0.5", "--observe", "diary")
    result = place.train("run", *chosen, "--max-steps", "5", "--resume-from", "latest", "--no-strict-resume")
    assert result.returncode == 0, result.stderr
    state = json.loads((place.folder / "run/checkpoints/step_5/state.json").read_text("utf-8"))
    assert {"seen": 5} in [*state["controllers"].values()]


def test_its_own_exporter_writes_the_adapter(place, finished):
    result = place.run("export", "run/final", "--target", "hooked_file", "--output", "sizes.json", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["modules"], report["reader"], report["notes"]) == (8, "json", ["a note"])
    assert min(json.loads((place.folder / "sizes.json").read_text("utf-8")).values()) > 0


@pytest.mark.slow
def test_an_exporter_of_ours_says_that_it_cannot_hold_the_adapter(place, finished):
    result = place.run("export", "run/final", "--target", "native", "--output", "native")
    assert result.returncode == 2
    assert "hooked" in result.stderr
    assert not (place.folder / "native").exists()


def test_an_exporter_gets_what_was_asked(place):
    args = ("--target", "card", "--output", "card.json", "--dtype", "bf16", "--no-verify", "--model", "base")
    result = place.run("export", "adapter", *args)
    assert result.returncode == 0, result.stderr
    asked = json.loads((place.folder / "card.json").read_text("utf-8"))
    assert asked == {"adapter": "adapter", "dtype": "bf16", "verify": False, "model": "acestep-v15-base"}


def test_an_exporter_chooses_the_name_when_none_is_given(place):
    assert place.run("export", "adapter", "--target", "card").returncode == 0
    assert json.loads((place.folder / "card.json").read_text("utf-8"))["dtype"] == "keep"


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("refuses", 2, "error: the card is too small"),
        ("unproven", 4, "error: the card reads back as something else"),
        ("unbuilt", 2, "error: exporter 'unbuilt' cannot be built: ValueError: no bricks"),
        ("lost", 2, "error: exporter 'lost' cannot be loaded from wave_parts:Nothing: "),
        ("far", 2, "error: exporter 'far' needs no-such-library: pip install no-such-library"),
        ("further", 2, "error: exporter 'further' needs no-such-library, nor-this: pip install 'sidestep-wave[far]'"),
    ],
)
def test_what_an_exporter_cannot_do_is_one_line_with_an_exit_code(place, target, code, message):
    result = place.run("export", "adapter", "--target", target)
    assert result.returncode == code
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(message)


def test_what_is_absent_is_named_where_the_plugin_is_shown(place):
    shown = place.run("plugins", "show", "wave").stdout
    assert "Needs more (needs no-such-library, nor-this)" in shown


def test_its_preset_is_listed_with_where_it_comes_from(place):
    presets = {p["name"]: p for p in json.loads(place.run("presets", "list", "--json").stdout)}
    assert presets["gentle"]["origin"] == "wave"
    assert presets["gentle"]["description"] == "Gentle: width 2 on queries only"
    assert presets["recommended"]["origin"] == "core"


def test_a_flag_wins_over_its_preset(place):
    result = place.plan("--preset", "gentle", "--width", "7")
    assert result.returncode == 0, result.stderr
    assert "hooked (width 7)" in result.stdout
    assert "plain_sgd (momentum 0.5)" in result.stdout


def test_the_plan_counts_what_a_third_party_adapter_trains(place):
    plans = [json.loads(place.plan("--preset", "gentle", "--width", w, "--json").stdout) for w in ("1", "4")]
    assert plans[1]["trainable"] == 4 * plans[0]["trainable"] > 0


def test_the_help_has_the_settings_of_what_is_chosen(place):
    result = place.run("train", "--adapter-type", "hooked", "--optimizer-type", "plain_sgd", "--help")
    assert "Adapter: hooked" in result.stdout
    assert "--width N" in result.stdout
    assert "--momentum X" in result.stdout
    assert "--rank" not in result.stdout


def test_a_value_out_of_its_bounds_is_named_by_its_flag(place):
    result = place.plan("--adapter-type", "hooked", "--width", "0")
    assert (result.returncode, result.stderr) == (2, "error: --width: must be at least 1, got 0\n")


def test_a_misspelt_setting_of_a_preset_is_named_by_its_table(place, tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('[adapter]\ntype = "hooked"\nwidht = 2\n', "utf-8")
    result = place.plan("--preset", str(preset))
    assert result.returncode == 2
    assert "adapter.widht: no such setting; did you mean 'width'?" in result.stderr


def test_a_setting_whose_flag_is_taken_goes_by_its_slot(place):
    result = place.plan("--timestep-mode", "clash", "--epochs", "9", "--timesteps-epochs", "4")
    assert result.returncode == 0, result.stderr
    assert "clash (epochs 4)" in result.stdout
    assert "9 of 1 step" in result.stdout


def test_a_controllers_setting_whose_flag_is_taken_goes_by_its_component(place):
    result = place.run("train", "--lr-control", "again", "--help")
    assert "--again-epochs N" in result.stdout


def test_two_controllers_with_one_setting_have_a_flag_each(place):
    args = ("--scheduler-type", "hold", "--lr-control", "late", "--share", "0.5", "--late-share", "0.25")
    result = place.plan(*args)
    assert result.returncode == 0, result.stderr
    assert "hold x late" in result.stdout


@pytest.mark.parametrize("flag", ["--timestep-mode", "--scheduler-type", "--lr-control"])
def test_an_ambiguous_name_must_be_qualified(place, flag):
    result = place.plan(flag, "wave")
    assert result.returncode == 2
    assert "'wave' is offered by more than one plugin; say one:wave or two:wave" in result.stderr


@pytest.mark.parametrize(("name", "flag"), [("one:wave", "--height"), ("two:wave", "--length")])
def test_a_qualified_name_works_with_the_settings_of_its_own(place, name, flag):
    result = place.plan("--timestep-mode", name, flag, "0.75")
    assert result.returncode == 0, result.stderr
    assert f"{name} ({flag.strip('-')} 0.75)" in result.stdout


def test_a_qualified_name_works_in_a_preset(place, tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('[timesteps]\ntype = "two:wave"\nlength = 0.5\n', "utf-8")
    result = place.plan("--preset", str(preset))
    assert result.returncode == 0, result.stderr
    assert "two:wave (length 0.5)" in result.stdout


def test_a_qualified_exporter_is_the_one_of_its_plugin(place):
    result = place.run("export", "adapter", "--target", "two:wave", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["paths"] == ["adapter/sidestep_two"]


def test_a_qualified_name_of_an_unknown_plugin_is_unknown(place):
    result = place.plan("--timestep-mode", "three:wave")
    assert result.returncode == 2
    assert "no timestep-sampler 'three:wave'" in result.stderr


@pytest.mark.slow
def test_controllers_of_one_name_from_two_plugins_both_count(place):
    chosen = ("--adapter-type", "hooked", "--scheduler-type", "one:wave", "--lr-control", "two:wave")
    result = place.train("both", *chosen, "--max-steps", "1")
    assert result.returncode == 0, result.stderr
    assert place.lines("both", "step")[0]["lr"] == pytest.approx(0.01 * 0.5 * 0.25)


CONTRACTS = """
    from safetensors.torch import load_file
    from sidestep_core.testing.contracts import AdapterContract, LRControllerContract


    class TestHooked(AdapterContract):
        plugin, name = "wave_hooks", "hooked"

        def saved_deltas(self, folder):
            tensors = load_file(folder / "hooked.safetensors")
            return {key[:-2]: tensors[key] @ tensors[f"{key[:-2]}.0"] for key in tensors if key.endswith(".1")}


    class TestHold(LRControllerContract):
        plugin, name = "wave_hooks", "hold"
"""


@pytest.mark.slow
def test_the_contracts_pass_on_the_third_party_components(place):
    write_code(place.folder / "test_wave.py", CONTRACTS)
    plugins = ("-p", "no:cacheprovider", "-p", "sidestep_core.testing.fixtures")
    result = place.python("-m", "pytest", "-q", *plugins, "test_wave.py")
    assert result.returncode == 0, result.stdout
