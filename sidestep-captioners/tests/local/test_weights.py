"""Where local models' files are looked for, and what is said when they are not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from sidestep_captioners.local.weights import locate
from sidestep_captioners.places import own_folder
from sidestep_core.errors import ProviderError
from sidestep_core.settings import DATA_VARIABLE

FILES = ("config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors")
REVISION = "0" * 40


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, no hub, and a data folder of the test's own."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return cache


def fill(folder: Path, *, without: str = "") -> Path:
    """Make the files of a model; where they are is all that matters."""
    folder.mkdir(parents=True)
    for name in FILES:
        if name != without:
            (folder / name).write_text("{}")
    return folder


def test_a_folder_that_is_named_comes_first(tmp_path: Path) -> None:
    fill(own_folder("acestep-captioner"))
    named = fill(tmp_path / "mine")
    assert locate("acestep-captioner", named).folder == named


def test_a_named_folder_without_the_model_is_not_the_last_place(tmp_path: Path) -> None:
    folder = fill(own_folder("acestep-captioner"))
    assert locate("acestep-captioner", tmp_path).folder == folder


def test_a_folder_of_models_is_looked_into(tmp_path: Path) -> None:
    fill(tmp_path / "models" / "acestep-captioner")
    found = locate("acestep-captioner", tmp_path / "models")
    assert (found.name, found.folder) == ("acestep-captioner", tmp_path / "models" / "acestep-captioner")


def test_sidesteps_own_folder_is_looked_into() -> None:
    folder = fill(own_folder("qwen2.5-omni-7b"))
    assert locate("qwen2.5-omni-7b", None).folder == folder


def test_a_model_can_be_a_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "tuned")
    assert locate(str(folder), None) == locate("tuned", tmp_path)


def test_the_hubs_cache_is_looked_into_without_a_network(hub_cache: Path) -> None:
    repository = hub_cache / "models--ACE-Step--acestep-transcriber"
    folder = fill(repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    assert locate("acestep-transcriber", None).folder == folder


def test_missing_weights_are_named_with_their_place_and_size() -> None:
    with pytest.raises(ProviderError) as caught:
        locate("acestep-captioner", None)
    message = str(caught.value)
    assert message.startswith("no weights of acestep-captioner: put the files of https://huggingface.co/ACE-Step/")
    assert f"into '{own_folder('acestep-captioner')}'" in message
    assert message.endswith("or say --allow-download (about 22 GB)")
    assert "\n" not in message


def test_the_place_that_was_named_is_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=f"into '{tmp_path}'"):
        locate("acestep-captioner", tmp_path)


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("model.safetensors", "model.safetensors"),
        ("tokenizer.json", "tokenizer.json or vocab.json"),
        ("preprocessor_config.json", "preprocessor_config.json or processor_config.json"),
    ],
)
def test_a_folder_that_lacks_a_file_says_which(tmp_path: Path, without: str, said: str) -> None:
    folder = fill(tmp_path / "half", without=without)
    with pytest.raises(ProviderError) as caught:
        locate("acestep-captioner", folder)
    assert str(caught.value) == f"'{folder}' lacks {said} of acestep-captioner"


def test_a_part_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "half", without="model.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-00001-of-00002.safetensors").write_text("")
    with pytest.raises(ProviderError, match=r"lacks model-00002-of-00002\.safetensors of"):
        locate("acestep-captioner", folder)


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "half")
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ProviderError, match=r"index\.json' is damaged"):
        locate("acestep-captioner", folder)


def test_a_folder_that_is_not_there_is_no_name_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="no model in '"):
        locate(str(tmp_path / "nowhere"), None)


def test_a_hub_that_does_not_answer_is_said() -> None:
    with pytest.raises(ProviderError) as caught:
        locate("acestep-captioner", None, download=True)
    assert caught.value.kind == "unreachable"
    assert str(caught.value).startswith("ACE-Step/acestep-captioner cannot be fetched: ")


class Hub(BaseHTTPRequestHandler):
    """A hub that has one model, and answers as the real one does."""

    content = b"{}"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/tree/" in self.path:
            files = [{"type": "file", "path": name, "size": 2, "oid": name} for name in (*FILES, "spk_dict.pt")]
            self._send(json.dumps(files).encode(), "application/json")
        elif self.path.startswith("/api/models/ACE-Step/acestep-captioner/"):
            self._send(json.dumps({"id": "ACE-Step/acestep-captioner", "sha": REVISION}).encode(), "application/json")
        else:
            self._send(self.content, "application/octet-stream")

    do_HEAD = do_GET

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        name = self.path.rpartition("/")[2]
        headers = {"Content-Type": kind, "Content-Length": len(body), "X-Repo-Commit": REVISION, "ETag": f'"{name}"'}
        for header, value in headers.items():
            self.send_header(header, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine."""
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    yield Hub
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_if_that_is_allowed_and_then_they_are_there(hub: type[Hub]) -> None:
    with pytest.raises(ProviderError, match="say --allow-download"):
        locate("acestep-captioner", None)
    assert hub.asked == []
    folder = locate("acestep-captioner", None, download=True).folder
    assert {path.name for path in folder.iterdir()} == set(FILES)
    hub.asked.clear()
    assert locate("acestep-captioner", None).folder == folder
    assert hub.asked == []
