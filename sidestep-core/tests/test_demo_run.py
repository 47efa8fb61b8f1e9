"""The demonstration in this process: what it clears, copies and leaves, its pictures and its page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import attrs
import numpy as np
import pytest
import soundfile
from sidestep_core import Toolkit
from sidestep_core.demo.panels import way_panels
from sidestep_core.demo.report import ExportRow, Report, write_report
from sidestep_core.demo.run import MARKER, OWN_SONGS, PREVIEW_SECONDS, demo
from sidestep_core.demo.way import way_picture
from sidestep_core.errors import Cancelled, DatasetError
from sidestep_core.events import DemoFinished, PreprocessFinished, PreviewMade, StageStarted, StepsDone
from sidestep_core.model.layout import resolve_model
from sidestep_core.settings import Settings
from sidestep_core.store.index import open_store
from sidestep_core.synthetic import write_songs
from sidestep_core.testing.exporters import LORA_RANKS, write_lora
from sidestep_core.testing.tiny_run import tiny_plan, write_noise

VOID = {"meta", "br", "hr", "img", "input", "link", "line", "polyline", "path", "rect"}


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    return Toolkit(settings=Settings(tmp_path_factory.mktemp("config") / "settings.toml"))


@pytest.fixture
def run(toolkit, tmp_path):
    """Start a demonstration in `out`; it is stopped as soon as it can be unless it may go on."""

    def start(audio_dir=None, *, go_on=False):
        list(demo(toolkit, tmp_path / "out", audio_dir, cancelled=lambda: not go_on))

    return start


@pytest.fixture
def stopped(run):
    """Run a demonstration that is stopped in preprocessing."""

    def start(audio_dir):
        with pytest.raises(Cancelled):
            run(audio_dir)

    return start


@pytest.fixture
def clip(tmp_path):
    """A folder with one little song of the user's."""
    return write_clip(tmp_path / "mine" / "clip.wav").parent


def write_clip(path, seconds=0.4, pitch=220.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * 8000)) / 8000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time), 8000)
    return path


def follow(run, seen):
    """Note each event when it comes, since what was seen may decide what comes next."""
    for event in run:
        seen.append(event)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def step(number, loss=2.0, smoothed=None):
    return StepsDone(
        step=number,
        total_steps=9,
        epoch=1,
        epochs=1,
        loss=loss,
        smoothed=loss if smoothed is None else smoothed,
        learning_rate=1e-3,
        grad_norm=1.0,
        steps_per_second=1.0,
        memory=0,
    )


# Its folder


def test_an_empty_folder_is_used_and_marked(stopped, clip, tmp_path):
    (tmp_path / "out").mkdir()
    stopped(clip)
    assert (tmp_path / "out" / MARKER).is_file()


def test_what_an_earlier_demonstration_made_is_replaced(stopped, clip, tmp_path):
    for name in (MARKER, "report.html", "songs/old.wav"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    stopped(clip)
    assert not (tmp_path / "out" / "report.html").exists()
    assert sorted(contents(tmp_path / "out" / "songs")) == ["clip.wav"]


@pytest.mark.parametrize("name", ["thesis.txt", ".hidden", "checkpoints/acestep-v15-base/model.safetensors"])
def test_a_folder_of_anything_else_is_left_as_it_is(run, tmp_path, name):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious", encoding="utf-8")
    with pytest.raises(DatasetError, match="is not empty and was not made by a demo; choose another folder"):
        run()
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]
    assert file.read_text(encoding="utf-8") == "precious"


def test_a_folder_called_like_the_marker_is_no_marker(run, tmp_path):
    (tmp_path / "out" / MARKER).mkdir(parents=True)
    with pytest.raises(DatasetError, match="was not made by a demo"):
        run()


def test_nothing_beside_its_folder_is_touched(stopped, clip, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    stopped(clip)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "mine", "out"}


# Songs


@pytest.fixture(scope="module")
def copied(toolkit, tmp_path_factory):
    """Nine songs of the user's with sidecars and a picture; what was there before, and what was copied."""
    folder = tmp_path_factory.mktemp("copied")
    for number, place in enumerate(["a/song", "b/c/song", "b/größer", *"uvwxyz"]):
        song = write_clip(folder / "mine" / f"{place}.wav", pitch=220.0 + number)
        song.with_suffix(".txt").write_text(f"caption: number {number}\n", encoding="utf-8")
    (folder / "mine" / "a" / "cover.jpg").write_bytes(b"picture")
    before = contents(folder / "mine")
    with pytest.raises(Cancelled):
        list(demo(toolkit, folder / "out", folder / "mine", cancelled=lambda: True))
    return folder, before, contents(folder / "out" / "songs")


def test_songs_are_copied_with_their_sidecars_also_those_of_one_name(copied):
    _, before, copies = copied
    assert {"a/song.wav", "a/song.txt", "b/c/song.wav", "b/c/song.txt"} < copies.keys()
    assert all(content == before[name][0] for name, (content, _) in copies.items())


def test_at_most_six_songs_are_copied_and_nothing_that_is_no_song(copied):
    _, _, copies = copied
    assert sum(name.endswith(".wav") for name in copies) == OWN_SONGS
    assert len(copies) == 2 * OWN_SONGS


def test_the_users_folder_stays_as_it_is(copied):
    folder, before, _ = copied
    assert contents(folder / "mine") == before


def test_a_folder_without_songs_is_refused(run, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DatasetError, match=r"no audio in '.*mine'"):
        run(tmp_path / "mine")


def test_songs_that_cannot_be_used_are_named_with_the_reason(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "broken.wav").write_bytes(b"no audio at all")
    with pytest.raises(DatasetError, match="none of the songs could be used: "):
        run(tmp_path / "mine", go_on=True)


# Stopping


def test_a_demonstration_stopped_in_preprocessing_leaves_its_model_and_songs(run, tmp_path):
    with pytest.raises(Cancelled, match="preprocessing was stopped"):
        run()
    assert (tmp_path / "out/checkpoints/acestep-v15-base/model.safetensors").is_file()
    assert len([path for path in (tmp_path / "out/songs").iterdir() if path.suffix != ".txt"]) == 6
    assert not (tmp_path / "out/run").exists()


@pytest.mark.slow
def test_a_demonstration_stopped_in_training_leaves_tensors_and_the_adapter_so_far(toolkit, tmp_path):
    write_songs(tmp_path / "mine", seconds=(0.8, 0.9))
    events = []

    def cancelled():
        return any(isinstance(event, StepsDone) for event in events)

    with pytest.raises(Cancelled, match=r"stopped; what was made so far is in '.*out'"):
        follow(demo(toolkit, tmp_path / "out", tmp_path / "mine", cancelled=cancelled), events)
    assert len(open_store(tmp_path / "out/tensors").songs) == 2
    assert (tmp_path / "out/run/final").is_dir()
    assert not (tmp_path / "out/report.html").exists()


# The whole way


@pytest.fixture(scope="module")
def finished(toolkit, tmp_path_factory):
    """Two little songs of the user's, one with a name that pages have to be careful with, all the way."""
    folder = tmp_path_factory.mktemp("way")
    write_clip(folder / "mine" / "a" / "<b>&.wav", 0.4)
    write_clip(folder / "mine" / "b" / "süß 100%.wav", 0.6, 330.0)
    events = list(demo(toolkit, folder / "out", folder / "mine", cancelled=lambda: False))
    return folder / "out", events


@pytest.mark.slow
def test_the_whole_way_ends_with_what_was_made(finished):
    output, events = finished
    last = events[-1]
    assert isinstance(last, DemoFinished)
    assert [target for target, _ in last.exports] == ["native", "diffusers"]
    made = [last.report, last.adapter, *(path for _, path in last.exports)]
    assert [path for path in made if not path.exists() or output not in path.parents] == []
    # one second of tones is too little for the loss to show anything; the workspace's tests have it fall on songs
    losses = [event.loss for event in events if isinstance(event, StepsDone)]
    tenth = len(losses) // 10
    assert (last.first_loss, last.last_loss) == pytest.approx((np.mean(losses[:tenth]), np.mean(losses[-tenth:])))


@pytest.mark.slow
def test_the_stages_come_in_the_order_of_the_way(finished):
    _, events = finished
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert (stages[0], stages[-2:]) == ("model", ["train", "export"])
    assert sum(isinstance(event, PreprocessFinished) for event in events) == 1


@pytest.mark.slow
def test_the_page_of_a_real_run_is_well_formed_and_plays_its_songs(finished):
    output, events = finished
    page = Page.read(events[-1].report)
    assert page.faults == []
    assert [path for path in page.sources if not (output / played(path)).is_file()] == []
    assert len(page.sources) == 2 + 3  # songs, and previews without the adapter and at two steps


@pytest.mark.slow
def test_a_real_run_is_heard_on_its_way(finished):
    output, events = finished
    made = [path for event in events if isinstance(event, PreviewMade) for path in event.paths]
    assert [path.parent.name for path in made] == ["without_adapter", "step_80", "step_160"]
    assert len({path.read_bytes() for path in made}) == 3
    assert all(output in path.parents and soundfile.info(path).duration == PREVIEW_SECONDS for path in made)


# The picture


@pytest.fixture(scope="module")
def report(tmp_path_factory, tiny_checkpoint, toolkit):
    """A finished run that never was: noise for tensors and numbers for losses."""
    folder = tmp_path_factory.mktemp("made-up")
    songs = write_songs(folder / "songs", seconds=(1.0, 1.5, 0.8))
    store = write_noise(folder / "tensors", resolve_model(tiny_checkpoint, "base"), frames=[25, 37, 20])
    plan = tiny_plan(tiny_checkpoint, store, folder / "run")
    write_lora(folder / "run" / "final")
    row = ExportRow(target="native", path=folder / "export" / "native", modules=3, error=2e-7, reader="peft <0.21>")
    steps = tuple(step(number, 3.0 - number / 4) for number in range(1, 10))
    exports = (row, attrs.evolve(row, error=0.0))
    return Report(songs=tuple(songs), previews=(), steps=steps, exports=exports, plan=plan)


@pytest.fixture
def panels(report):
    return way_panels(report, report.plan.run / "final")


def test_the_way_has_five_stations(panels):
    assert [panel.name for panel in panels] == ["Songs", "Tensors", "Training", "Adapter", "Proven exports"]


def test_the_stations_tell_the_numbers_of_the_run(panels):
    assert [panel.facts[0] for panel in panels] == [
        "3 songs, 3 s",
        "82 latent frames",
        "9 steps",
        f"small, {len(LORA_RANKS)} projections",
        "3 modules read back",
    ]
    assert panels[2].facts[1] == "loss 2.75 to 0.75"
    assert panels[4].facts[1] == "error 2e-07"  # the largest of all exports


def test_the_stations_draw_what_there_is(panels):
    drawn = [ElementTree.fromstring(f"<g>{panel.drawing}</g>") for panel in panels]
    assert [len(drawing) for drawing in drawn] == [3, 16 * 37, 2, len(LORA_RANKS), 2]


def test_the_stations_make_one_picture(panels):
    assert ElementTree.fromstring(way_picture(panels)).tag == "{http://www.w3.org/2000/svg}svg"


# The page


class Page(HTMLParser):
    """Follows a page: tags left open or closed without being open, texts, and what its players play."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.texts, self.sources, self.tags = [], [], [], [], []

    @classmethod
    def read(cls, path):
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        page.faults += [f"{tag} is never closed" for tag in page.open]
        return page

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name == "src"]
        if len(dict(attributes)) < len(attributes):
            self.faults.append(f"{tag} says something twice")

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} is closed where it is not open")

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def played(source):
    """Return the file that a browser asks for: what comes after ? and # is no part of its name."""
    return unquote(urlsplit(source).path)


@pytest.fixture
def page_of(report):
    def make(*names, **changes):
        folder = report.plan.run.parent
        songs = tuple(folder / "songs" / name for name in names)
        changed = attrs.evolve(report, songs=songs, **changes)
        return Page.read(write_report(folder / "report.html", changed, "<svg></svg>"))

    return make


def test_a_page_opens_and_closes_every_tag(page_of):
    assert page_of("a.wav").faults == []


@pytest.mark.parametrize(
    "name",
    [
        '<b>&".wav',
        "a'b.wav",
        "<script>alert(1)</script>.wav",
        "100% #1?.wav",
        "süß 日本.wav",
        "deep/in/a folder.wav",
        "&amp;.wav",
    ],
)
def test_a_song_of_any_name_is_shown_and_played(page_of, name):
    page = page_of(name, "other.wav")
    assert page.faults == []
    assert "script" not in page.tags
    assert Path(name).name in page.texts
    assert [played(source) for source in page.sources] == [f"songs/{name}", "songs/other.wav"]


def test_proofs_are_told_with_their_reader(page_of):
    texts = page_of("a.wav").texts
    told = [text for text in texts if text in ("error 2e-07", "exact", "peft <0.21>")]
    assert told == ["error 2e-07", "peft <0.21>", "exact", "peft <0.21>"]


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        (1.0, "The smoothed loss fell: 2.000 → 1.000."),
        (2.0, "The smoothed loss did not fall: 2.000 → 2.000."),
        (3.5, "The smoothed loss did not fall: 2.000 → 3.500."),
    ],
)
def test_the_page_says_honestly_whether_the_loss_fell(page_of, last, verdict):
    assert verdict in page_of("a.wav", steps=(step(1, 2.0), step(9, 5.0, last))).texts


def test_a_page_stands_alone_but_for_its_songs(page_of):
    page = page_of("a.wav")
    assert page.sources == ["songs/a.wav"]
    assert {"link", "img", "iframe", "script"}.isdisjoint(page.tags)


def test_previews_are_played_under_the_name_of_their_step(page_of, report):
    root = report.plan.run / "previews"
    page = page_of("a.wav", previews=(root / "without_adapter" / "1_a.flac", root / "step_80" / "1_a.flac"))
    assert page.faults == []
    assert [text for text in page.texts if text in ("without adapter", "step 80")] == ["without adapter", "step 80"]
    assert page.sources[1:] == ["run/previews/without_adapter/1_a.flac", "run/previews/step_80/1_a.flac"]


def test_a_page_without_previews_does_not_speak_of_them(page_of):
    assert "What it generated on the way" not in page_of("a.wav").texts


@pytest.mark.parametrize(("output", "songs"), [("out", "out/mine"), ("mine/out", "mine"), ("mine", "mine")])
def test_output_and_songs_must_lie_apart(tmp_path, output, songs):
    (tmp_path / songs).mkdir(parents=True)
    (tmp_path / songs / "a.wav").touch()
    toolkit = Toolkit(entry_points=False, settings=Settings(tmp_path / "settings.toml"))
    with pytest.raises(DatasetError, match="lie in each other"):
        list(demo(toolkit, tmp_path / output, tmp_path / songs, cancelled=lambda: False))
    assert (tmp_path / songs / "a.wav").exists()


def test_an_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "out").touch()
    toolkit = Toolkit(entry_points=False, settings=Settings(tmp_path / "settings.toml"))
    with pytest.raises(DatasetError, match="is a file"):
        list(demo(toolkit, tmp_path / "out", None, cancelled=lambda: False))
