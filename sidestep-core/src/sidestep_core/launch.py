"""Where this process stands among those that a launcher (`accelerate launch`, `torchrun`) started together. Light."""

from __future__ import annotations

import os

import attrs


@attrs.frozen(kw_only=True)
class Launch:
    """The place of a process.

    Attributes:
        rank: its number, from 0; that of the main process, which alone writes and reports.
        count: processes in all.
        local_rank: its number on its machine.
        local_count: processes on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def main(self) -> bool:
        """Whether it is the main process."""
        return self.rank == 0


def launched() -> Launch:
    """Return the place that the launcher gave this process; a process that was started alone is the main one."""
    if "LOCAL_RANK" not in os.environ:
        return Launch()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    return Launch(
        rank=int(os.environ.get("RANK", "0")),
        count=count,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_count=int(os.environ.get("LOCAL_WORLD_SIZE", str(count))),
    )
