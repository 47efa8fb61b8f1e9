"""Registers the providers of this package; there are none yet."""

from __future__ import annotations

sidestep_api = 1
