"""The five distributions: what their metadata promises, and what their code keeps away from."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest
from sidestep_core.plugin_check import HEAVY
from sidestep_core.plugins import FIRST_PARTY, Plugins

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = sorted(path.parent.name for path in ROOT.glob("sidestep-*/pyproject.toml"))
PACKAGES = [name.replace("-", "_") for name in DISTRIBUTIONS]
RANGE = ">=0.1,<0.2"
RELEASE = re.compile(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4})-(\d\d)-(\d\d)\Z")
KINDS_OF_CHANGE = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
# model, audio and API libraries besides those that plugin modules are checked for
HEAVY_TOO = {"soxr", "pyloudnorm", "tokenizers", "psutil", "imageio_ffmpeg"}
# modules that the listings, plans and settings are made of; commands and plugin modules are added below
LIGHT_CORE = [
    *("configs", "conversion", "dataset", "dataset_file", "errors", "events", "files", "hookspecs", "interfaces"),
    *("memory", "options", "plan", "plugin_check", "plugins", "presets", "prompts", "registry", "requests", "runs"),
    *("schema", "settings", "sidecars", "songs", "specs", "tags", "targets", "toolkit", "builtins.configs"),
    *("model.dims", "model.folder", "model.headers", "model.layout", "model.names", "store.index", "store.info"),
    *("audio.constants", "builtins.progress", "builtins.schedules", "testing.contracts", "testing.fixtures"),
]


def find_modules() -> dict[str, Path]:
    """Return every module of the five packages with its file."""
    found = {}
    for distribution in DISTRIBUTIONS:
        source = ROOT / distribution / "src"
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = find_modules()
LIGHT = [
    *(f"sidestep_core.{name}" for name in LIGHT_CORE),
    *(name for name in MODULES if name.startswith("sidestep_cli")),
    *(name for name in MODULES if name.endswith((".plugin", ".configs", ".sizes"))),
]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def package(module: str) -> str:
    return module.partition(".")[0]


def of(*packages: str) -> list[str]:
    return [module for module in MODULES if package(module) in packages]


def at_top(module: str) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported: no function bodies, nothing that only type checkers read."""
    waiting: list[ast.AST] = [*tree(module).body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the modules that import statements name; of `from a import b` also a.b, where that is a module of ours."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if package(name) not in PACKAGES or name in MODULES}


@cache
def imports(module: str) -> frozenset[str]:
    """Return the modules that importing a module imports, itself and the packages it is in included."""
    own = imported(at_top(module))
    parents = {module.rpartition(".")[0]} - {""}
    return frozenset(own | parents)


def closure(module: str) -> set[str]:
    """Return everything that importing a module pulls in, as far as our own code says."""
    seen: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= (imports(name) if name in MODULES else frozenset()) - seen
    return seen


def is_call(node: ast.AST, *names: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in names


def calls(modules: Iterable[str], *names: str) -> list[str]:
    """Return where functions of those names are called."""
    return [f"{m}:{node.lineno}" for m in modules for node in ast.walk(tree(m)) if is_call(node, *names)]


def keywords(name: str) -> Iterator[tuple[str, str]]:
    """Yield where an argument, or an entry of a dict of arguments, of that name is given, and its value."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.keyword) and node.arg == name:
                yield f"{module}:{node.lineno}", ast.unparse(node.value)
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                found = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == name]
                yield from ((f"{module}:{value.lineno}", ast.unparse(value)) for value in found)


def project(distribution: str) -> dict[str, object]:
    return tomllib.loads((ROOT / distribution / "pyproject.toml").read_text("utf-8"))["project"]


def headings(distribution: str, level: str) -> list[str]:
    text = (ROOT / distribution / "CHANGELOG.md").read_text("utf-8")
    return re.findall(rf"^{level} (.+)$", text, re.MULTILINE)


def requirements(distribution: str) -> dict[str, str]:
    """Return what a distribution needs of ours, extras included, as name -> range."""
    extras = project(distribution).get("optional-dependencies", {})
    everything = [*project(distribution)["dependencies"], *(r for group in extras.values() for r in group)]
    found = (re.match(r"(sidestep-\w+)(?:\[[\w,]+\])?(.*)", line) for line in everything)
    return {match[1]: match[2] for match in found if match and match[2]}


def test_there_are_five():
    assert set(DISTRIBUTIONS) == FIRST_PARTY
    assert len(DISTRIBUTIONS) == 5


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_is_installed_in_its_own_version(distribution):
    assert importlib.metadata.version(distribution) == project(distribution)["version"]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_metadata_has_what_an_index_shows(distribution):
    metadata = importlib.metadata.metadata(distribution)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"] == project(distribution)["description"]
    assert metadata["Description-Content-Type"] == "text/markdown"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_entry_points_are_those_of_its_project_file(distribution):
    declared = project(distribution).get("entry-points", {}) | {
        "console_scripts": project(distribution).get("scripts", {})
    }
    wanted = {(group, name, value) for group, entries in declared.items() for name, value in entries.items()}
    installed = {(e.group, e.name, e.value) for e in importlib.metadata.distribution(distribution).entry_points}
    assert installed == wanted


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_plugin_is_named_after_it_and_lies_in_it(distribution):
    entries = project(distribution)["entry-points"]["sidestep"]
    assert list(entries) == [distribution.removeprefix("sidestep-")]
    assert all(package(value) == distribution.replace("-", "_") and value in MODULES for value in entries.values())


def test_every_first_party_plugin_works():
    records = {r.distribution: r for r in Plugins(disabled=["*"]).records if r.first_party}
    assert {name: (r.status, r.problems) for name, r in records.items() if r.status != "ok" or r.problems} == {}
    assert set(records) == FIRST_PARTY


def test_everything_that_is_offered_is_where_it_says():
    targets = [spec.target for record in Plugins(disabled=["*"]).records for spec in record.specs]
    makers = {f"{m}:{n.name}" for m in MODULES for n in tree(m).body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    assert [target for target in targets if target not in makers] == []


def test_the_command_is_that_of_the_cli():
    assert project("sidestep-cli")["scripts"] == {"sidestep": "sidestep_cli.main:main"}
    assert [d for d in DISTRIBUTIONS if d != "sidestep-cli" and project(d).get("scripts")] == []


def test_the_command_and_the_module_are_the_same_program():
    command = Path(sys.executable).with_name("sidestep")
    asked = [[str(command), "--version"], [sys.executable, "-m", "sidestep_cli", "--version"]]
    said = [subprocess.run(args, capture_output=True, text=True, check=True).stdout for args in asked]
    assert said == [f"sidestep {project('sidestep-cli')['version']}\n"] * 2


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_needs_the_others_of_its_own_series(distribution):
    assert set(requirements(distribution).values()) <= {RANGE}


def test_only_the_command_needs_more_than_the_core():
    needed = {distribution: set(requirements(distribution)) for distribution in DISTRIBUTIONS}
    assert needed.pop("sidestep-cli") == FIRST_PARTY - {"sidestep-cli"}
    assert needed.pop("sidestep-core") == set()
    assert set(map(frozenset, needed.values())) == {frozenset({"sidestep-core"})}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_version_is_within_the_range_that_the_others_ask_for(distribution):
    assert re.match(r"0\.1\.\d+\Z", project(distribution)["version"])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_changelog_begins_with_what_is_not_released_yet(distribution):
    assert headings(distribution, "#") == [f"Changelog of {distribution}"]
    assert headings(distribution, "##")[0] == "[Unreleased]"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_releases_have_a_date_and_go_down_to_the_first(distribution):
    released = [RELEASE.match(heading) for heading in headings(distribution, "##")[1:]]
    assert None not in released
    versions = [tuple(map(int, match.groups()[:3])) for match in released if match]
    assert versions == sorted(set(versions), reverse=True)
    current = tuple(map(int, project(distribution)["version"].split(".")))
    assert all(version <= current for version in versions)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_changes_stand_under_the_usual_headings(distribution):
    assert set(headings(distribution, "###")) <= KINDS_OF_CHANGE


@pytest.mark.parametrize("name", PACKAGES)
def test_it_is_marked_as_typed(name):
    assert (Path(importlib.import_module(name).__file__ or "").parent / "py.typed").is_file()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_its_readme_begins_with_its_name(distribution):
    assert (ROOT / distribution / "README.md").read_text("utf-8").startswith(f"# {distribution}\n")


def test_every_module_with_code_says_what_it_is():
    assert [module for module in MODULES if tree(module).body and not ast.get_docstring(tree(module))] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_it_imports_only_itself_and_the_core(name):
    used = {package(i) for module in of(name) for i in imported(ast.walk(tree(module)))} & set(PACKAGES)
    assert used <= {name, "sidestep_core"}


@pytest.mark.parametrize("name", ["click", "rich"])
def test_only_the_command_line_imports_what_draws_it(name):
    users = {package(module) for module in MODULES if name in map(package, imported(ast.walk(tree(module))))}
    assert users == {"sidestep_cli"}


def test_every_light_module_is_there():
    assert [name for name in LIGHT if name not in MODULES] == []


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_light_module_imports_nothing_heavy(module):
    heavy = {name.partition(".")[0] for name in HEAVY if name != "google.genai"} | HEAVY_TOO
    assert {package(name) for name in closure(module)} & heavy == set()


def test_what_the_import_graph_says_is_true():
    """One process imports every light module; whatever our own code does not name must stay out, too."""
    code = f"import importlib, sys; [importlib.import_module(m) for m in {LIGHT!r}]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert (HEAVY | HEAVY_TOO) & set(loaded) == set()


def test_the_graph_knows_what_is_heavy():
    assert "torch" in closure("sidestep_core.training.loop")
    assert "numpy" in closure("sidestep_core.audio.decode")


def test_no_package_but_the_command_line_prints():
    libraries = [module for module in MODULES if package(module) != "sidestep_cli"]
    assert calls(libraries, "print", "sys.stdout.write", "sys.stderr.write", "warnings.simplefilter") == []


def test_nothing_is_evaluated():
    assert calls(MODULES, "eval", "exec", "compile", "__import__", "os.system", "os.popen") == []


def test_no_process_goes_through_a_shell():
    assert [place for place, _ in keywords("shell")] == []


def test_torch_reads_files_with_weights_only():
    reading = [node for module in MODULES for node in ast.walk(tree(module)) if is_call(node, "torch.load")]
    given = [{keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords} for node in reading]
    assert {arguments.get("weights_only") for arguments in given} == {"True"}


def test_of_pickle_only_its_error_is_used():
    used = {ast.unparse(n) for m in MODULES for n in ast.walk(tree(m)) if isinstance(n, ast.Attribute)}
    assert {name for name in used if package(name) == "pickle"} == {"pickle.UnpicklingError"}


def test_nothing_else_that_runs_code_from_files_is_imported():
    everything = {package(name) for module in MODULES for name in imported(ast.walk(tree(module)))}
    assert everything & {"marshal", "shelve", "dill", "joblib", "cloudpickle", "runpy"} == set()


def test_no_remote_code_is_trusted():
    assert [place for place, value in keywords("trust_remote_code") if value != "False"] == []


def test_imports_are_absolute_and_name_what_they_take():
    froms = [(m, node) for m in MODULES for node in ast.walk(tree(m)) if isinstance(node, ast.ImportFrom)]
    stars = [f"{m}:{node.lineno}" for m, node in froms if node.level or any(alias.name == "*" for alias in node.names)]
    assert stars == []
