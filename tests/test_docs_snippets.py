"""What the pages show works when it is typed: commands, flags, settings, the plugin and the Python snippet."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
from sidestep_cli.commands.train import GROUPS, SLOTS
from sidestep_cli.main import cli, run
from sidestep_cli.slots import SlotCommand
from sidestep_core import errors
from sidestep_core.options import Option, options_of
from sidestep_core.plugins import SPEC_HOOKS, Plugins
from sidestep_core.sidecars import Sidecar, parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("sidestep-*/README.md")), *sorted((ROOT / "docs").rglob("*.md"))]
WRITING = ROOT / "docs/plugins/writing.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*\b(?!-)")
SIDESTEP = re.compile(r"\s*(?:sidestep|uv run sidestep|python3 dev\.py run) (?=\S)")
# stand-ins that a page has for what its reader puts there
STAND_INS = {
    "--adapter-type NAME": "--adapter-type lora",
    "--target NAME": "--target native",
    "--provider (NAME|radio)": "--provider none",
    "providers check (NAME|radio)": "providers check",
    "NAME": "core",
}
# flags of other programs and of the plugins that docs/plugins/writing.md and docs/plugins/providers.md write, and one
# of older command lines that `audio-analyze` reads before it parses
OTHERS = {"--torch", "--low", "--high", "--radio-url", "--radio-key", "--mode"}
EXIT_CODE = re.compile(r"^\| ([\d, ]+) \|", re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the code blocks of a page, all without languages."""
    return [body for language, body in BLOCK.findall(read(page)) if not languages or language in languages]


def inline(page: Path) -> list[str]:
    return INLINE.findall(BLOCK.sub("", read(page)))


def lines(page: Path) -> Iterator[str]:
    """Yield what a page shows as typed: lines of its blocks, continued ones joined, and inline code."""
    for body in blocks(page, "sh", "text"):
        yield from re.sub(r"\\\n\s*", "", body).splitlines()
    yield from inline(page)


def arguments(line: str) -> list[str]:
    """Return a line that a page shows as the arguments a reader would type."""
    text = SIDESTEP.sub("", line).replace("...", "")
    text = re.sub(r"\[(.*?)\]", r"\1", text)
    for stand_in, value in STAND_INS.items():
        text = re.sub(rf"{stand_in}\b", value, text)
    return shlex.split(text, comments=True)


def commands() -> list[tuple[str, list[str]]]:
    """Return every command line that a page shows, once; those for any COMMAND are no lines to type."""
    found = {}
    for page in PAGES:
        for line in lines(page):
            if SIDESTEP.match(line) and "COMMAND" not in line and arguments(line):
                found.setdefault(shlex.join(arguments(line)), (page.name, arguments(line)))
    return list(found.values())


COMMANDS = commands()
TRAININGS = [args for _, args in COMMANDS if args[0] == "train" and "--dataset-dir" in args]
PYPROJECTS = [(page, text) for page in PAGES for text in blocks(page, "toml")]
PRESETS = [text for page in PAGES for text in inline(page) if re.match(r"\[[\w-]+\] \w+ = ", text)]


def spellings(setting: Option) -> set[str]:
    negated = {flag.replace("--", "--no-", 1) for flag in setting.flags} if setting.type is bool else set()
    return {*setting.flags, *negated}


def command_flags(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the flags of a command and of everything below it."""
    for param in command.get_params(context):
        yield from (*param.opts, *param.secondary_opts)
    if isinstance(command, SlotCommand):
        for group in command.groups:
            yield from (flag for setting in group.settings() for flag in spellings(setting))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from command_flags(child, click.Context(child, parent=context, info_name=name))


def component_flags() -> Iterator[str]:
    for registry in Plugins(disabled=["*"]).registries.values():
        for spec in registry.values():
            yield from (f for setting in options_of(spec.config) for f in spellings(setting)) if spec.config else ()


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Every flag of every command and component."""
    root = click.Context(cli, info_name="sidestep", help_option_names=["-h", "--help"])
    return {*command_flags(cli, root), *component_flags()}


def mentioned(text: str) -> set[str]:
    """Return the flags in a text, without those on lines that start other programs."""
    return set(FLAG.findall(re.sub(r"^(?:python|pip|pytest|tensorboard) .*$", "", text, flags=re.MULTILINE)))


def settled(page: Path) -> str:
    """Return a page's text without the reference of user settings, which are set by `settings set`, not by flags."""
    return read(page).partition("## User settings")[0]


def module_code(page: Path) -> dict[str, str]:
    """Return the files that a page writes, by the path in their first line."""
    found = (re.match(r"# (\S+\.\w+)\n(.*)", body, re.DOTALL) for body in blocks(page, "python", "toml"))
    return {match[1]: match[2] for match in found if match}


@attrs.frozen
class Place:
    """A working folder with ./checkpoints and tensors, in which the plugin of the pages is installed."""

    folder: Path

    def python(self, *args: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(self.folder / "site"), os.environ.get("PYTHONPATH"))))
        variables = {"PYTHONPATH": path, "COLUMNS": "100", "SIDESTEP_CONFIG_DIR": str(self.folder / "config")}
        return subprocess.run(
            [sys.executable, *args], capture_output=True, text=True, cwd=self.folder, env={**os.environ, **variables}
        )

    def sidestep(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "sidestep_cli", *args)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_checkpoint) -> Place:
    """A place with tensors of noise, and the plugin that docs/plugins/writing.md writes, block by block."""
    from sidestep_core.model.layout import resolve_model
    from sidestep_core.testing.tiny_run import write_noise

    folder = tmp_path_factory.mktemp("place")
    (folder / "checkpoints").symlink_to(tiny_checkpoint)
    for tensors in ("my_tensors", "more_tensors"):
        write_noise(folder / tensors, resolve_model(tiny_checkpoint, "base"), frames=(20, 25, 30))
    files = module_code(WRITING)
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    for name, code in files.items():
        (folder / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "site" / name).write_text(code, "utf-8")
    info = folder / "site" / f"{project['name'].replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1\n", "utf-8")
    groups = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(groups, "utf-8")
    return Place(folder)


def test_the_pages_show_commands():
    assert len(COMMANDS) > 20
    assert {args[0] for _, args in COMMANDS} >= {"demo", "preprocess", "train", "export", "plugins", "presets"}


@pytest.mark.parametrize(("page", "args"), COMMANDS, ids=[shlex.join(args) for _, args in COMMANDS])
def test_a_command_line_that_is_shown_is_understood(page, args, request, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SIDESTEP_CONFIG_DIR", str(tmp_path))
    if "--timestep-mode" in args:
        result = request.getfixturevalue("place").sidestep(*args, "--help")
        code, out, err = result.returncode, result.stdout, result.stderr
    else:
        code = run([*args, "--help"])
        out, err = capsys.readouterr()
    assert (code, err) == (0, ""), page
    assert out.startswith("Usage: sidestep")


@pytest.mark.parametrize("args", TRAININGS, ids=shlex.join)
def test_a_training_that_is_shown_can_be_planned(place, args):
    result = place.sidestep(*args, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "44 projections" in result.stdout


def test_what_dev_py_is_shown_to_do_it_does():
    usage = subprocess.run([sys.executable, ROOT / "dev.py", "--help"], capture_output=True, text=True, check=True)
    choices = re.search(r"\{([\w,]+)\}", usage.stdout)
    assert choices is not None
    shown = [line for page in PAGES for line in lines(page) if line.startswith("python3 dev.py ")]
    words = {re.sub(r"--torch \S+ ", "", line.removeprefix("python3 dev.py ")).split()[0] for line in shown}
    assert words >= {"demo", "test", "run"}
    assert words - set(choices[1].split(",")) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_flag_that_is_mentioned_belongs_to_some_command(page, known_flags):
    assert sorted(mentioned(settled(page)) - known_flags - OTHERS) == []


@pytest.mark.parametrize(("page", "text"), PYPROJECTS, ids=[str(page.relative_to(ROOT)) for page, _ in PYPROJECTS])
def test_a_project_file_that_is_shown_names_a_real_group_of_entry_points(page, text):
    tables = tomllib.loads(text)
    assert set(tables) == {"project"}
    assert set(tables["project"]["entry-points"]) <= {"sidestep", "sidestep.commands"}


@pytest.mark.parametrize("text", PRESETS)
def test_a_preset_that_is_shown_sets_what_there_is(place, tmp_path, text):
    preset = tmp_path / "shown.toml"
    preset.write_text(text.replace("] ", "]\n"), "utf-8")
    args = ("--preset", str(preset), "--dataset-dir", "my_tensors", "--output-dir", "run", "--dry-run")
    result = place.sidestep("train", *args)
    assert result.returncode == 0, result.stderr


def test_every_table_of_a_shipped_preset_is_one_of_the_reference(place):
    headings = {group.name for group in GROUPS} | {slot.name for slot in SLOTS}
    folder = ROOT / "sidestep-core/src/sidestep_core/builtins/presets"
    tables = {name for path in folder.glob("*.toml") for name in tomllib.loads(path.read_text("utf-8"))}
    assert tables - headings == {"description"}


@pytest.mark.parametrize("name", [p.stem for p in (ROOT / "sidestep-core/src").rglob("presets/*.toml")])
def test_a_shipped_preset_makes_a_plan(place, name):
    args = ("--preset", name, "--dataset-dir", "my_tensors", "--output-dir", "run", "--dry-run")
    result = place.sidestep("train", *args)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_sidecar_of_the_tutorial_says_what_it_shows():
    text = next(body for body in blocks(ROOT / "docs/tutorial.md", "text") if body.startswith("caption:"))
    sidecar = parse(text)
    assert (sidecar.bpm, sidecar.key, sidecar.signature, sidecar.genre) == ("84", "A minor", "4/4", "lo-fi")
    assert sidecar.caption.startswith("warm lo-fi hip hop")
    assert sidecar.lyrics == "[Verse]\nsoft notes in the morning light"


def sidecar_keys() -> list[tuple[str, str]]:
    """Return every spelling of the guide's table with the key it means."""
    rows = re.findall(r"^\| (`\w+`) \|([^|]*)\|", read(ROOT / "docs/guide/dataset.md"), re.MULTILINE)
    return [(name, key.strip("`")) for key, also in rows for name in INLINE.findall(f"{key} {also}")]


@pytest.mark.parametrize(("spelling", "key"), sidecar_keys())
def test_a_key_of_the_sidecar_table_is_read(spelling, key):
    sidecar = parse(f"caption: calm\n{spelling}: 7\n")
    trigger = key == "custom_tag" and spelling == "trigger"
    assert getattr(sidecar, "trigger" if trigger else key) == "7"


def test_every_key_of_a_sidecar_is_in_the_table():
    documented = {key for _, key in sidecar_keys()} | {spelling for spelling, _ in sidecar_keys()}
    kept_only = {"tags", "duration", "other", "comments", "lyrics"}
    assert {field.name for field in attrs.fields(Sidecar)} - documented == kept_only


@pytest.mark.parametrize("page", ["docs/guide/training.md", "sidestep-cli/README.md"])
def test_every_exit_code_is_in_the_table(page):
    documented = {int(n) for row in EXIT_CODE.findall(read(ROOT / page)) for n in row.split(",")}
    raised = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and hasattr(e, "exit_code")}
    assert raised | {0, 1, 143} == documented


def test_every_export_target_is_in_the_guide():
    text = read(ROOT / "docs/guide/exporting.md")
    assert [n for n in Plugins(disabled=["*"]).registries["exporter"] if f"| `{n}` |" not in text] == []


def test_every_kind_of_component_has_its_hook_in_the_reference():
    text = read(ROOT / "docs/reference/hooks.md")
    assert [hook for hook in SPEC_HOOKS if f"## {hook}\n" not in text] == []


def test_the_plugin_that_the_pages_write_is_listed(place):
    result = place.sidestep("plugins", "list")
    row = next(line for line in result.stdout.splitlines() if "sidestep-band" in line)
    assert row.split()[:2] == ["ok", "band"]
    assert "timestep-sampler band" in row


def test_the_plugin_that_the_pages_write_passes_the_check(place):
    result = place.sidestep("plugins", "check", "sidestep_band.plugin")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "sidestep_band.plugin: everything in order" in result.stdout


def test_the_tests_that_the_pages_write_pass(place):
    (code,) = blocks(ROOT / "docs/plugins/testing.md", "python")
    (place.folder / "test_band.py").write_text(code, "utf-8")
    result = place.python("-m", "pytest", "-v", "-p", "no:cacheprovider", "test_band.py")
    assert result.returncode == 0, result.stdout
    assert "TestPlugin::test_it_has_no_faults PASSED" in result.stdout
    assert "TestBandSampler::test_the_generator_alone_decides PASSED" in result.stdout


def test_the_help_has_the_settings_of_the_plugin_that_the_pages_write(place):
    result = place.sidestep("train", "--timestep-mode", "band", "--help")
    assert "--low X" in result.stdout
    assert "Smallest timestep drawn." in result.stdout


def test_a_value_that_the_plugin_of_the_pages_refuses_is_explained(place):
    args = ("--timestep-mode", "band", "--low", "0.8", "--high", "0.2")
    result = place.sidestep("train", "--dataset-dir", "my_tensors", "--output-dir", "run", *args, "--dry-run")
    assert result.returncode == 2
    assert "low (0.8) must be below high (0.2)" in result.stderr


def test_a_run_with_the_plugin_that_the_pages_write_trains(place):
    args = ("--timestep-mode", "band", "--low", "0.4", "--high", "0.6", "--max-steps", "2", "--rank", "2")
    result = place.sidestep("train", "--dataset-dir", "my_tensors", "--output-dir", "banded", *args)
    assert result.returncode == 0, result.stderr
    assert '"low": 0.4' in (place.folder / "banded/run.json").read_text("utf-8")
    assert (place.folder / "banded/final/adapter_model.safetensors").is_file()


def test_the_python_snippet_of_the_core_trains(place):
    """As it stands there, but for two steps instead of a thousand epochs."""
    (code,) = blocks(ROOT / "sidestep-core/README.md", "python")
    shorter = code.replace("import DataConfig, RunConfig", "import DataConfig, RunConfig, TrainConfig")
    shorter = shorter.replace("    run=RunConfig(", "    train=TrainConfig(max_steps=2),\n    run=RunConfig(")
    result = place.python("-c", shorter)
    assert result.returncode == 0, result.stderr
    assert "RunStarted(" in result.stdout
    assert "RunFinished(" in result.stdout
    assert (place.folder / "output/my_lora/final").is_dir()
