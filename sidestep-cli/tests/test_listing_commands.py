"""Commands that show and set: plugins, settings, presets, models, tensors, history, tags, dataset."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sidestep_core.hookspecs import hookimpl
from sidestep_core.runs import write_record
from sidestep_core.settings import Settings
from sidestep_core.specs import AdapterType, ExporterType
from sidestep_core.store.index import Source, StoredSong, TensorStore, write_index
from sidestep_core.synthetic import write_songs
from sidestep_core.toolkit import Toolkit

RunCli = Callable[..., Any]
KEYS = ("0" * 32, "1" * 32)


class Good:
    """A plugin with one exporter."""

    sidestep_api = 1

    @hookimpl
    def sidestep_exporters(self) -> list[ExporterType]:
        """Offer one."""
        return [ExporterType(name="tape", summary="Magnetic tape", target="a:B", needs=("no-such-distribution",))]


class Raising:
    """A plugin whose hook raises."""

    sidestep_api = 1

    @hookimpl
    def sidestep_adapters(self) -> list[AdapterType]:
        """Fail."""
        raise RuntimeError("not today")


class Old:
    """A plugin for another plugin API."""

    sidestep_api = 0


@pytest.fixture
def toolkit(tmp_path: Path) -> Toolkit:
    settings = Settings(tmp_path / "settings.toml")
    given = {"good": Good(), "raising": Raising(), "old": Old()}
    return Toolkit(plugins=given, entry_points=False, settings=settings)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    write_songs(tmp_path / "songs", seconds=(1.0, 1.5))
    return tmp_path / "songs"


def make_tensors(path: Path, *, files: bool) -> Path:
    store = TensorStore(
        path=path,
        variant="base",
        conditioning="inference",
        latent="sample",
        dtype="bf16",
        songs=tuple(
            StoredSong(name=f"{i}.wav", frames=100, rows=10, seconds=s, latents_key=KEYS[i], conditioning_key=KEYS[i])
            for i, s in enumerate((4.0, 95.0))
        ),
        sources={"0.wav": Source(size=1, mtime_ns=1, hash=KEYS[0])},
    )
    path.mkdir()
    write_index(store)
    for song in store.songs if files else ():
        for file in (store.latents_file(song), store.conditioning_file(song)):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"x" * 600)
    return path


def make_run(folder: Path, *, created: float, best: float = 0.5) -> None:
    record = {"name": folder.name, "status": "complete", "created": created, "adapter_type": "lora", "variant": "base"}
    write_record(folder, {**record, "total_steps": 20, "epochs": 2})
    steps = [
        {"kind": "epoch", "step": 10, "epoch": 1, "loss": best},
        {"kind": "epoch", "step": 20, "epoch": 2, "loss": 0.9},
    ]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))


# plugins


def test_plugins_of_this_installation_are_all_in_order(run_cli: RunCli) -> None:
    found = json.loads(run_cli("plugins", "list", "--json").out)
    ours = {p["distribution"]: p["status"] for p in found if p["distribution"].startswith("sidestep-")}
    names = ("sidestep-adapters", "sidestep-captioners", "sidestep-core", "sidestep-exporters")
    assert {name: ours.get(name) for name in names} == dict.fromkeys(names, "ok")


def test_plugins_are_listed_with_status_offers_and_problems(run_cli: RunCli, toolkit: Toolkit) -> None:
    result = run_cli("plugins", "list", toolkit=toolkit)
    assert result.code == 0
    assert [" ".join(line.split()) for line in result.out.splitlines()] == [
        "STATUS PLUGIN FROM VERSION OFFERS",
        "ok good (given) exporter tape",
        "broken raising (given) sidestep_adapters: RuntimeError: not today",
        "incompatible old (given) written for plugin API 0, this is 1",
    ]


def test_plugins_show_has_the_traceback(run_cli: RunCli, toolkit: Toolkit) -> None:
    result = run_cli("plugins", "show", "raising", toolkit=toolkit)
    assert result.code == 0
    assert "Traceback (most recent call last)" in result.out
    assert 'raise RuntimeError("not today")' in result.out


def test_plugins_show_says_what_a_component_lacks(run_cli: RunCli, toolkit: Toolkit) -> None:
    assert "Magnetic tape (needs no-such-distribution)" in run_cli("plugins", "show", "good", toolkit=toolkit).out
    offers = json.loads(run_cli("plugins", "show", "good", "--json", toolkit=toolkit).out)["offers"]
    assert offers == [
        {"kind": "exporter", "name": "tape", "summary": "Magnetic tape", "missing": ["no-such-distribution"]}
    ]


def test_plugins_show_of_an_unknown_one_says_which_there_are(run_cli: RunCli, toolkit: Toolkit) -> None:
    result = run_cli("plugins", "show", "goood", toolkit=toolkit)
    assert (result.code, result.err) == (2, "error: no plugin 'goood'; there is good, raising, old\n")


PLUGIN_SOURCE = """
from sidestep_core import hookimpl
from sidestep_core.specs import ExporterType
sidestep_api = 1
@hookimpl
def sidestep_exporters():
    return [ExporterType(name="tape", summary="Magnetic tape", target="{target}")]
"""


@pytest.mark.parametrize(
    ("name", "source", "code", "says"),
    [
        ("fine_plugin", PLUGIN_SOURCE.format(target="json:dumps"), 0, "fine_plugin: everything in order"),
        ("lost_plugin", PLUGIN_SOURCE.format(target="json:no_such"), 1, "cannot be loaded from json:no_such"),
        ("old_plugin", "sidestep_api = 0", 1, "written for plugin API 0, this is 1"),
        (
            "unmarked_plugin",
            PLUGIN_SOURCE.format(target="json:dumps").replace("@hookimpl", ""),
            1,
            "sidestep_exporters is not marked with @hookimpl: not called",
        ),
    ],
)
def test_plugins_check_tells_an_author_what_is_wrong(
    run_cli: RunCli, tmp_path: Path, name: str, source: str, code: int, says: str
) -> None:
    (tmp_path / f"{name}.py").write_text(source)
    result = run_cli("plugins", "check", name)
    assert result.code == code
    assert says in result.out


def test_plugins_check_of_a_module_that_fails_is_one_line(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "failing_plugin.py").write_text("1 / 0")
    result = run_cli("plugins", "check", "failing_plugin")
    expected = "error: module 'failing_plugin' cannot be imported: ZeroDivisionError: division by zero\n"
    assert (result.code, result.err) == (2, expected)


# settings


def test_settings_are_shown_set_and_cleared(run_cli: RunCli, tmp_path: Path) -> None:
    assert json.loads(run_cli("settings", "show", "--json").out)["checkpoint_dir"] is None
    assert run_cli("settings", "set", "checkpoint_dir", "models").code == 0
    assert json.loads(run_cli("settings", "show", "--json").out)["checkpoint_dir"] == "models"
    assert run_cli("settings", "clear", "checkpoint_dir").code == 0
    assert json.loads(run_cli("settings", "show", "--json").out)["checkpoint_dir"] is None


def test_every_setting_is_shown_with_its_help(run_cli: RunCli, tmp_path: Path) -> None:
    lines = run_cli("settings", "show").out.splitlines()[1:]
    settings = list(Settings(tmp_path / "none").items())
    assert [line.split()[0] for line in lines] == [s.key for s in settings]
    assert all(line.endswith(s.option.help) for line, s in zip(lines, settings, strict=True))


def test_the_path_of_the_settings_is_printed(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("settings", "path").out == f"{tmp_path / 'config' / 'settings.toml'}\n"


def test_an_unknown_setting_says_which_there_are(run_cli: RunCli) -> None:
    result = run_cli("settings", "set", "checkpoint", "models")
    assert result.code == 2
    assert result.err.startswith("error: no setting 'checkpoint'; there is checkpoint_dir, ")


# presets


def test_a_preset_of_the_user_is_listed_and_shown(run_cli: RunCli, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "presets"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("description = 'For tests'\n[train]\nepochs = 3\n")
    listed = {p["name"]: p for p in json.loads(run_cli("presets", "list", "--json").out)}
    assert listed["mine"] == {"name": "mine", "origin": "user", "description": "For tests"}
    assert "mine" in run_cli("presets", "list").out
    shown = tomllib.loads(run_cli("presets", "show", "mine").out)
    assert shown == {"description": "For tests", "train": {"epochs": 3}}
    assert json.loads(run_cli("presets", "show", "mine", "--json").out) == {"train": {"epochs": 3}}


def test_without_presets_the_folder_for_them_is_named(run_cli: RunCli, toolkit: Toolkit, tmp_path: Path) -> None:
    result = run_cli("presets", "list", toolkit=toolkit)
    assert (result.code, result.out) == (0, "")
    assert str(tmp_path / "config" / "presets" / "NAME.toml") in result.err


def test_an_unknown_preset_is_an_error(run_cli: RunCli) -> None:
    result = run_cli("presets", "show", "nothing_like_it")
    assert (result.code, result.out) == (2, "")
    assert "no preset 'nothing_like_it'" in result.err


# models


def test_models_are_listed_with_what_they_are(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    result = run_cli("models", "list", "--checkpoint-dir", tiny_checkpoint)
    heading, row = result.out.splitlines()
    assert heading.split("  ")[0] == "MODEL"
    assert row.split()[:4] == ["acestep-v15-base", "base", "original", "fp32"]
    assert row.endswith("nothing")


def test_models_as_json(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    (model,) = json.loads(run_cli("models", "list", "-c", tiny_checkpoint, "--json").out)
    assert (model["name"], model["variant"], model["missing"]) == ("acestep-v15-base", "base", [])


def test_models_come_from_the_settings_when_no_folder_is_named(run_cli: RunCli, tiny_checkpoint: Path) -> None:
    run_cli("settings", "set", "checkpoint_dir", tiny_checkpoint)
    assert "acestep-v15-base" in run_cli("models", "list").out


def test_without_any_models_the_error_says_where_to_name_them(run_cli: RunCli) -> None:
    result = run_cli("models", "list")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")


def test_a_tiny_model_has_the_variants_asked_for(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("models", "tiny", "made", "--variants", "sft,turbo").out == "made\n"
    found = json.loads(run_cli("models", "list", "-c", "made", "--json").out)
    assert sorted(model["variant"] for model in found) == ["sft", "turbo"]


def test_an_unknown_variant_is_refused(run_cli: RunCli) -> None:
    result = run_cli("models", "tiny", "made", "--variants", "base,large")
    assert (result.code, result.err.partition(";")[0]) == (2, "error: no variant 'large'")


# tensors


def test_tensors_are_summed_up(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("tensors", "info", make_tensors(tmp_path / "t", files=True))
    assert (result.code, result.err) == (0, "")
    assert "songs    2\naudio    1:39 min\non disk  2.4 kB\nformat   safetensors bf16\n" in result.out
    assert [line.lstrip().split("  ")[0] for line in result.out.splitlines()[-2:]] == ["0 to 10 s", "60 to 120 s"]


def test_missing_tensors_are_named_and_are_exit_code_1(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("tensors", "info", make_tensors(tmp_path / "t", files=False))
    assert result.code == 1
    assert result.err.count("warning: missing: ") == 4


def test_damaged_tensors_are_found_by_verifying(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("tensors", "info", make_tensors(tmp_path / "t", files=True), "--verify", "--json")
    assert result.code == 1
    assert len(json.loads(result.out)["problems"]) == 2


def test_a_folder_without_tensors_is_an_error(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("tensors", "info", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "no tensors in" in result.err


# history


def test_runs_are_listed_newest_first(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "output" / "old", created=1_000_000)
    make_run(tmp_path / "output" / "new", created=2_000_000, best=0.25)
    lines = run_cli("history").out.splitlines()
    assert [line.split()[2:] for line in lines[1:]] == [
        ["complete", "lora", "base", "20/20", "0.2500", str(Path("output/new"))],
        ["complete", "lora", "base", "20/20", "0.5000", str(Path("output/old"))],
    ]


def test_history_has_a_limit(run_cli: RunCli, tmp_path: Path) -> None:
    for number in range(3):
        make_run(tmp_path / "runs" / f"run{number}", created=float(number))
    found = json.loads(run_cli("history", "runs", "--limit", "2", "--json").out)
    assert [run["name"] for run in found] == ["run2", "run1"]
    assert found[0]["best_loss"] == 0.5


def test_history_looks_into_the_folder_of_the_settings(run_cli: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "elsewhere" / "mine" / "run", created=1.0)
    (tmp_path / "work").mkdir()
    run_cli("settings", "set", "adapters_dir", tmp_path / "elsewhere" / "mine")
    assert "run" in run_cli("history").out


def test_without_runs_it_says_so(run_cli: RunCli) -> None:
    result = run_cli("history")
    assert (result.code, result.out, result.err) == (0, "", "no runs found; name the folders to look in\n")


# tags


def test_a_tag_is_added_listed_and_removed(run_cli: RunCli, songs: Path) -> None:
    assert run_cli("tags", "add", songs, "--tag", "mine").err == "2 sidecars changed\n"
    assert [song["tags"] for song in json.loads(run_cli("tags", "list", songs, "--json").out)] == [["mine"], ["mine"]]
    assert run_cli("tags", "remove", songs, "--tag", "mine").err == "2 sidecars changed\n"
    assert run_cli("tags", "list", songs).out.splitlines()[1].endswith("  -")


def test_a_position_decides_where_a_tag_goes(run_cli: RunCli, songs: Path) -> None:
    run_cli("tags", "set", songs, "--tag", "one")
    run_cli("tags", "add", songs, "--tag", "two", "--position", "append")
    assert run_cli("tags", "list", songs).out.splitlines()[1].endswith("  one, two")


def test_a_dry_run_shows_the_change_and_writes_nothing(run_cli: RunCli, songs: Path) -> None:
    before = {path: path.read_bytes() for path in songs.iterdir()}
    result = run_cli("tags", "add", songs, "--tag", "mine", "--dry-run")
    assert result.out == "01-synthwave.txt\n  + custom_tag: mine\n02-waltz.txt\n  + custom_tag: mine\n"
    assert result.err == "2 sidecars would change\n"
    assert {path: path.read_bytes() for path in songs.iterdir()} == before


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, []), ("n\n", 130, ["mine"])])
def test_clearing_asks_first(run_cli: RunCli, songs: Path, typed: str, code: int, left: list[str]) -> None:
    run_cli("tags", "set", songs, "--tag", "mine")
    assert run_cli("tags", "clear", songs, typed=typed).code == code
    assert json.loads(run_cli("tags", "list", songs, "--json").out)[0]["tags"] == left


def test_yes_answers_the_question(run_cli: RunCli, songs: Path) -> None:
    run_cli("tags", "set", songs, "--tag", "mine")
    assert run_cli("--yes", "tags", "clear", songs).code == 0


def test_a_tag_is_required(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("tags", "add", songs)
    assert result.code == 2
    assert "Missing option '-t' / '--tag'" in result.err


# dataset


def test_a_dataset_file_lists_the_songs(run_cli: RunCli, songs: Path) -> None:
    result = run_cli("dataset", "--input", songs, "--tag", "mine", "--genre-ratio", "20")
    assert (result.code, result.out) == (0, f"2 songs in {Path('songs/dataset.json')}\n")
    data = json.loads((songs / "dataset.json").read_text())
    metadata = data["metadata"]
    assert (metadata["name"], metadata["custom_tag"], metadata["genre_ratio"]) == ("local_dataset", "mine", 20)
    assert [sample["filename"] for sample in data["samples"]] == ["01-synthwave.wav", "02-waltz.flac"]
    assert [sample["duration"] for sample in data["samples"]] == [1, 1]


def test_a_dataset_file_can_go_elsewhere(run_cli: RunCli, songs: Path, tmp_path: Path) -> None:
    run_cli("dataset", "-i", songs, "--output", "list.json", "--name", "mine")
    data = json.loads((tmp_path / "list.json").read_text())
    assert data["metadata"]["name"] == "mine"
    assert data["samples"][0]["audio_path"] == "songs/01-synthwave.wav"


def test_a_song_that_cannot_be_measured_is_a_warning_and_exit_code_1(run_cli: RunCli, songs: Path) -> None:
    (songs / "empty.wav").touch()
    result = run_cli("dataset", "-i", songs)
    assert (result.code, result.out) == (1, f"3 songs in {Path('songs/dataset.json')}\n")
    assert "warning: " in result.err
    assert "empty.wav" in result.err
