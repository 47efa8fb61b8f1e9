"""JSON Schema of configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from sidestep_core.configs import (
    DataConfig,
    MemoryConfig,
    ModelConfig,
    PreprocessConfig,
    RunConfig,
    TargetsConfig,
    TrainConfig,
)
from sidestep_core.options import config, option
from sidestep_core.schema import schema_of

SHARED = [ModelConfig, PreprocessConfig, DataConfig, TrainConfig, TargetsConfig, MemoryConfig, RunConfig]


@config
class Example:
    """Every kind of setting."""

    count: int = option(default=3, at_least=1, at_most=9, help="How many.")
    share: float | None = option(default=None, above=0, below=1, help="How much.")
    mode: Literal["a", "b"] = option(default="a", help="Which.")
    names: tuple[str, ...] = option(default=("x",), help="Names.")
    place: Path = option(default=Path("a/b"), help="Where.")
    token: str = option(help="Key.", secret=True)


def test_bounds_choices_lists_and_secrets_are_all_there():
    assert schema_of(Example, title="Try") == {
        "title": "Try",
        "type": "object",
        "additionalProperties": False,
        "required": ["token"],
        "properties": {
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many.", "default": 3},
            "share": {
                "anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"type": "null"}],
                "description": "How much.",
                "default": None,
            },
            "mode": {"enum": ["a", "b"], "description": "Which.", "default": "a"},
            "names": {"type": "array", "items": {"type": "string"}, "description": "Names.", "default": ["x"]},
            "place": {"type": "string", "description": "Where.", "default": str(Path("a/b"))},
            "token": {"type": "string", "description": "Key.", "writeOnly": True},
        },
    }


@pytest.mark.parametrize("shared", SHARED)
def test_every_shared_config_has_a_schema_that_is_json(shared):
    assert json.loads(json.dumps(schema_of(shared)))["title"] == shared.__name__
