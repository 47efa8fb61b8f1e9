"""Fixtures and contracts for the tests of sidestep's packages and of third-party plugins."""

from __future__ import annotations

import pytest

# a contract that fails in somebody's test suite shows both sides of the comparison
pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("contracts", "component", "adapters", "exporters"))
)
