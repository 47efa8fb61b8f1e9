"""Adapter folders are read exactly, and hostile or damaged ones are one clear line."""

import json
import math
import pickle
import struct

import pytest
import safetensors.torch
import torch
from sidestep_core.errors import AdapterError
from sidestep_core.formats.keys import layer_order
from sidestep_core.formats.reading import deltas, read_updates
from sidestep_core.formats.saved import read_adapter
from sidestep_core.formats.updates import LowRank

Q, UP = "layers.2.self_attn.q_proj", "layers.10.mlp.up_proj"


def module(name, rank=4, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(len(name))
    down, up = torch.randn(rank, 6, generator=generator), torch.randn(8, rank, generator=generator)
    return LowRank(name=name, down=down.to(dtype), up=up.to(dtype), scale=scale)


def write(folder, modules, **settings):
    """Write a folder as other trainers do: the scale stays outside the weights."""
    tensors = {}
    for part in modules:
        tensors[f"base_model.model.{part.name}.lora_A.weight"] = part.down
        tensors[f"base_model.model.{part.name}.lora_B.weight"] = part.up
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, **settings}
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "a", [module(UP), module(Q)])


def header(text, size=None):
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(data) if size is None else size) + data


# Reading


def test_a_folder_is_described_without_reading_tensors(folder):
    saved = read_adapter(folder)
    assert (saved.folder, saved.format, saved.metadata) == (folder, "peft", {"format": "pt"})
    assert saved.config["lora_alpha"] == 4
    assert saved.shapes[f"base_model.model.{Q}.lora_B.weight"] == (8, 4)


def test_the_file_in_the_folder_is_the_same_adapter(folder):
    assert read_adapter(folder / "adapter_model.safetensors") == read_adapter(folder)


def test_modules_come_in_layer_order(folder):
    assert [name for name, _ in deltas(read_adapter(folder))] == [Q, UP]


def test_layer_order_counts():
    assert sorted(["layers.10.a", "layers.9.b", "layers.9.a"], key=layer_order) == [
        "layers.9.a",
        "layers.9.b",
        "layers.10.a",
    ]


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 1.0),
        ({"lora_alpha": 10}, 2.5),
        ({"lora_alpha": 0.5}, 0.125),
        ({"lora_alpha": 10, "use_rslora": True}, 10 / math.sqrt(4)),
        ({"alpha_pattern": {Q: 6}}, 1.5),
        ({"alpha_pattern": {f"^{Q}": 6}}, 1.5),
        ({"alpha_pattern": {"q_proj": 6}}, 1.5),
        ({"alpha_pattern": {"layers.2": 6, "_proj": 6, "^q_proj": 6}}, 1.0),
        ({"alpha_pattern": {"self_attn.q_proj": 8, "q_proj": 6}}, 2.0),
    ],
)
def test_the_scale_follows_alpha_and_rank(tmp_path, settings, scale):
    folder = write(tmp_path / "a", [module(Q)], **settings)
    _, delta = next(deltas(read_adapter(folder)))
    assert torch.allclose(delta, scale * module(Q).up @ module(Q).down)


def test_a_modules_own_rank_divides_its_alpha(tmp_path):
    folder = write(tmp_path / "a", [module(Q), module(UP, rank=2)], lora_alpha=8, rank_pattern={UP: 2})
    assert [(part.rank, part.scale) for part in read_updates(read_adapter(folder))] == [(4, 2.0), (2, 4.0)]


def test_half_precision_files_give_float32_differences(tmp_path):
    folder = write(tmp_path / "a", [module(Q, dtype=torch.bfloat16)])
    _, delta = next(deltas(read_adapter(folder)))
    assert delta.dtype == torch.float32


def test_a_file_without_peft_settings_has_the_format_it_names(tmp_path):
    file = tmp_path / "lokr_weights.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, file, {"format": "lycoris"})
    assert read_adapter(tmp_path).format == "lycoris"
    with pytest.raises(AdapterError, match="'w' is no tensor of an adapter that can be read"):
        next(deltas(read_adapter(tmp_path)))


# Refusing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "OFT"}, "says OFT, the tensors are of lora"),
        ({"peft_type": "BOFT"}, "peft_type 'BOFT' is not read; there is LORA, OFT"),
        ({"peft_type": None}, "peft_type None is not read"),
        ({"peft_type": ["LORA"]}, r"peft_type \['LORA'\] is not read"),
        ({"use_dora": True}, "says LORA with use_dora, the tensors are of lora"),
        ({"r": 8}, "has rank 4, the settings say 8"),
        ({"lora_alpha": None}, f"'{Q}': lora_alpha must be a number, not None"),
        ({"lora_alpha": True}, "must be a number, not True"),
        ({"lora_alpha": "4"}, "must be a number, not '4'"),
        ({"lora_alpha": float("nan")}, "must be a number, not nan"),
        ({"alpha_pattern": [Q]}, "alpha_pattern must be a table of names"),
        ({"alpha_pattern": {r"(a+)+b": 2}}, r"'\(a\+\)\+b' in alpha_pattern is not a module name"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, message):
    folder = write(tmp_path / "a", [module(Q)], **settings)
    with pytest.raises(AdapterError, match=message):
        list(deltas(read_adapter(folder)))


def change(folder, edit):
    file = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    edit(tensors)
    safetensors.torch.save_file(tensors, file)


A = f"base_model.model.{Q}.lora_A.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(A), "'down' of .* is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is no tensor of an adapter"),
        (lambda t: t.update({A: torch.zeros(3, 6)}), "do not make a product"),
        (lambda t: t.update({A: torch.zeros(4)}), r"has the shape \(4,\)"),
        (lambda t: t.update({A: torch.zeros(4, 0)}), r"has the shape \(4, 0\)"),
        (lambda t: t.update({A: torch.full((4, 6), torch.inf)}), "are not all finite numbers"),
        (lambda t: t.update({A: torch.zeros(4, 6, dtype=torch.int64)}), "does not hold floating point numbers"),
        (lambda t: t.clear(), "holds no tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder, edit, message):
    change(folder, edit)
    with pytest.raises(AdapterError, match=message):
        list(deltas(read_adapter(folder)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        pickle.dumps({"layers": [1, 2, 3]}),
        header({}, size=2**63),
        header({}, size=2**40),
        header(b"not json"),
        header({"w": {"dtype": "F32", "shape": [2**63], "data_offsets": [0, 4]}}) + b"1234",
        header({"w": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 4]}}) + b"1234",
        header({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + b"1234",
        header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}) + b"1234",
        header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}) + b"1234",
    ],
    ids=str,
)
def test_files_that_are_no_safetensors_are_one_line(folder, content):
    (folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(AdapterError, match="not a readable safetensors file") as error:
        read_adapter(folder)
    assert "\n" not in str(error.value)


def test_every_cut_of_a_file_is_refused(folder):
    file = folder / "adapter_model.safetensors"
    content = file.read_bytes()
    for length in range(0, len(content), 37):
        file.write_bytes(content[:length])
        with pytest.raises(AdapterError):
            read_adapter(folder)


@pytest.mark.parametrize("name", ["adapter_model.bin", "song.pt"])
def test_files_that_could_run_code_are_not_opened(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"lora": [1.0]}))
    with pytest.raises(AdapterError, match="can run code and are not read"):
        read_adapter(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "binary", "deep"])
def test_settings_that_are_no_json_are_one_line(folder, content):
    (folder / "adapter_config.json").write_bytes(content)
    with pytest.raises(AdapterError, match=r"adapter_config.json is not readable JSON"):
        read_adapter(folder)


@pytest.mark.parametrize("content", ["[]", "{}", "3", "null"])
def test_settings_that_describe_nothing_are_refused(folder, content):
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(AdapterError, match="does not describe an adapter"):
        read_adapter(folder)


def test_a_folder_without_an_adapter_says_where_there_is_one(folder):
    with pytest.raises(AdapterError, match="there is one in a"):
        read_adapter(folder.parent)


def test_an_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(AdapterError, match=r"a folder with adapter_model.safetensors is expected"):
        read_adapter(tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AdapterError, match=r"no adapter at .*gone"):
        read_adapter(tmp_path / "gone")
