"""One projection in peft's hands."""

from __future__ import annotations

from typing import Any

import peft
from torch import nn

NAME = "default"  # what peft calls the one adapter that a layer holds
_PLACE = "projection"


def peft_layer(linear: nn.Linear, method: type[peft.PeftConfig], **settings: Any) -> Any:
    """Return peft's layer around a projection, its weights in float32.

    Each projection is alone in a model of its own: so each can have settings of its own, and no name can match more
    than was chosen.
    """
    model = nn.ModuleDict({_PLACE: linear})
    peft.inject_adapter_in_model(method(target_modules=[_PLACE], **settings), model, NAME)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft gives them the dtype of the projection
    return model[_PLACE]
