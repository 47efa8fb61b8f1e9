"""What the contracts of all kinds of components share."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from sidestep_core.plugins import Plugins
from sidestep_core.specs import BuildContext, Spec


class ComponentContract:
    """One component: `plugin` is its module, `name` what users type, `context` what it is built in."""

    kind: str
    plugin: str
    name: str
    config: Any = None
    context = BuildContext(seed=7, learning_rate=1e-3, total_steps=100, steps_per_epoch=10)

    @pytest.fixture
    def spec(self) -> Spec:
        """The component's description."""
        plugins = Plugins(entry_points=False, extra={"it": importlib.import_module(self.plugin)})
        return plugins.find(self.kind, self.name)
