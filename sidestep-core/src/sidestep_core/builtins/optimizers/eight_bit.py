"""The optimizer of bitsandbytes, with a state like every other's."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.optim import AdamW8bit


class FlatAdamW8bit(AdamW8bit):  # type: ignore[misc]
    """AdamW with 8-bit states."""

    def state_dict(self) -> dict[str, Any]:
        """Return torch's own form: bitsandbytes nests tensors in it, for sharded training."""
        return torch.optim.Optimizer.state_dict(self)
