"""The tokenizer of a model is there without the model, and one that is missing or damaged is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sidestep_core.errors import CheckpointError
from sidestep_core.model.folder import ModelFolder
from sidestep_core.model.layout import resolve_model
from sidestep_core.model.load import load_text_encoder
from sidestep_core.model.tokenizer import load_tokenizer

TEXTS = ("", "warm pads", "[Verse]\n夜に駆ける 🎹", "la " * 300)


@pytest.fixture
def own(tiny_checkpoint: Path, tmp_path: Path) -> ModelFolder:
    """Return a model that a test may damage."""
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    return resolve_model(tmp_path / "checkpoint", "base")


@pytest.mark.parametrize("root", ["tiny_checkpoint", "tiny_diffusers"])
def test_it_is_the_one_that_comes_with_the_text_encoder(root: str, request: pytest.FixtureRequest) -> None:
    folder = resolve_model(request.getfixturevalue(root), None)
    alone, (together, _) = load_tokenizer(folder), load_text_encoder(folder)
    assert [alone(text)["input_ids"] for text in TEXTS] == [together(text)["input_ids"] for text in TEXTS]


def test_no_weights_are_read(own: ModelFolder) -> None:
    for weights in own.text_encoder.glob("*.safetensors"):
        weights.unlink()
    assert len(load_tokenizer(own)("warm pads")["input_ids"]) > 0


def test_a_missing_folder_is_named(own: ModelFolder) -> None:
    shutil.rmtree(own.tokenizer)
    with pytest.raises(CheckpointError, match=rf"no tokenizer in .*the folder '{own.tokenizer.name}' is missing"):
        load_tokenizer(own)


def test_a_damaged_one_is_told_in_one_line(own: ModelFolder) -> None:
    for path in own.tokenizer.glob("token*"):
        path.write_text("{")
    with pytest.raises(CheckpointError, match=r"the tokenizer in .* cannot be loaded: ") as raised:
        load_tokenizer(own)
    assert "\n" not in str(raised.value)


def test_nothing_is_asked_of_the_network(own: ModelFolder) -> None:
    code = (
        "import sys, socket; from pathlib import Path\n"
        "def refuse(*args, **kwargs): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from sidestep_core.model.layout import resolve_model\n"
        "from sidestep_core.model.tokenizer import load_tokenizer\n"
        "print(len(load_tokenizer(resolve_model(Path(sys.argv[1]), 'base'))('warm')['input_ids']) > 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, own.root], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
