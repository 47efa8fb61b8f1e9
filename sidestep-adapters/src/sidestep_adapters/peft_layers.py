"""One projection in peft's hands, and folders that peft reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import peft
from sidestep_core.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from sidestep_core.tensor_files import tensor_bytes
from torch import Tensor, nn

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


def peft_folder(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the files of a PEFT folder, by name.

    Args:
        settings: what adapter_config.json says beyond what all types have in common.
        tensors: weights by their full keys.
        metadata: of the safetensors file.
    """
    config = {
        "task_type": None,  # with one, PEFT would call the decoder as if it were a language model
        "base_model_name_or_path": "",
        "peft_version": peft.__version__,
        "bias": "none",
        "inference_mode": True,
        **settings,
    }
    return {
        CONFIG_NAME: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        WEIGHTS_NAME: tensor_bytes(tensors, {"format": "pt", **metadata}),
    }
