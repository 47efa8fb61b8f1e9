"""Components of one kind by name: who offers what, who has precedence, and what is ambiguous."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from sidestep_core.errors import AmbiguousName, UnknownName
from sidestep_core.specs import Spec

S = TypeVar("S", bound=Spec)


class Registry(Mapping[str, S], Generic[S]):
    """Specs of one kind by bare name; `plugin:name` always works, an ambiguous bare name is an error."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._specs: dict[str, S] = {}
        self._owners: dict[str, list[str]] = {}
        self._pinned: dict[str, str] = {}

    def add(self, plugin: str, spec: S, *, pin: bool = False) -> None:
        """Take in a plugin's spec; a pinned one keeps its bare name whoever else offers it."""
        full_name = f"{plugin}:{spec.name}"
        if full_name in self._specs:
            raise ValueError(f"{self.kind} {spec.name!r} is offered twice by one plugin")
        self._specs[full_name] = spec
        self._owners.setdefault(spec.name, []).append(plugin)
        if pin:
            self._pinned.setdefault(spec.name, plugin)

    def __getitem__(self, name: str) -> S:
        if name in self._specs:
            return self._specs[name]
        owners = self._owners.get(name)
        if owners is None:
            raise UnknownName(self._unknown(name))
        owner = self._pinned.get(name) or (owners[0] if len(owners) == 1 else None)
        if owner is None:
            qualified = " or ".join(f"{o}:{name}" for o in sorted(owners))
            raise AmbiguousName(f"{self.kind} {name!r} is offered by more than one plugin; say {qualified}")
        return self._specs[f"{owner}:{name}"]

    def __contains__(self, name: object) -> bool:
        return name in self._specs or name in self._owners

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._owners))

    def __len__(self) -> int:
        return len(self._owners)

    def every(self) -> Iterator[S]:
        """Yield every spec, those of ambiguous names too."""
        return iter(self._specs.values())

    def collisions(self) -> dict[str, list[str]]:
        """Return the names that several plugins offer, with those plugins."""
        return {name: owners for name, owners in self._owners.items() if len(owners) > 1}

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._owners, n=1)
        there = ", ".join(self) or "none installed"
        return f"no {self.kind} {name!r}; there is {there}" + (f"; did you mean {near[0]!r}?" if near else "")
