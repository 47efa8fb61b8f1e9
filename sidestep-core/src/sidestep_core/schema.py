"""JSON Schema of a config class: what a form or an editor needs to show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sidestep_core.options import Option, options_of

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
_BOUNDS = {"at_least": "minimum", "at_most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def schema_of(config_type: type, *, title: str = "") -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a config class."""
    options = list(options_of(config_type))
    schema: dict[str, Any] = {
        "title": title or config_type.__name__,
        "type": "object",
        "properties": {option.name: _property(option) for option in options},
        "additionalProperties": False,
    }
    required = [option.name for option in options if option.required]
    return schema | ({"required": required} if required else {})


def _property(option: Option) -> dict[str, Any]:
    item: dict[str, Any] = {"enum": list(option.choices)} if option.choices else {"type": _TYPES[option.type]}
    for name, keyword in _BOUNDS.items():
        if (bound := getattr(option, name)) is not None:
            item[keyword] = bound
    if option.many:
        item = {"type": "array", "items": item}
    if option.nullable:
        item = {"anyOf": [item, {"type": "null"}]}
    item["description"] = option.help
    if not option.required:
        item["default"] = _plain(option.default)
    if option.secret:
        item["writeOnly"] = True
    return item


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
