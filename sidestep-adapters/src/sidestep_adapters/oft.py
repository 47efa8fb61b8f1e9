"""OFT through peft: the inputs of each chosen projection are rotated, block by block."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import peft
import torch
from sidestep_core.errors import AdapterError
from sidestep_core.formats.keys import PEFT_PREFIX, layer_order
from sidestep_core.formats.peft_files import peft_folder
from sidestep_core.targets import Target
from torch import Tensor, nn

from sidestep_adapters.configs import OftConfig
from sidestep_adapters.peft_layers import NAME, peft_layer
from sidestep_adapters.projections import ProjectionAdapter
from sidestep_adapters.sizes import block_size


class OftAdapter(ProjectionAdapter[OftConfig]):
    """OFT and COFT. The rank of a projection is its block size; there is no alpha."""

    def check(self, targets: Sequence[Target]) -> None:
        """Refuse what a file could not hold: PEFT knows one block size for all projections.

        Blocks are zero-padded to a common multiple when they are saved, which must divide each projection's inputs.
        """
        if scaled := [target.name for target in targets if target.alpha is not None]:
            raise AdapterError(f"oft has no alpha, but {scaled[0]!r} is given one; give a block size alone")
        sizes = {block_size(self.config, target.in_features, target.rank) for target in targets}
        common = math.lcm(*sizes)
        if odd := [target for target in targets if target.in_features % common]:
            raise AdapterError(
                f"block sizes {', '.join(map(str, sorted(sizes)))} cannot be saved together: {common}, their common "
                f"multiple, does not divide the {odd[0].in_features} inputs of {odd[0].name!r}; "
                "choose sizes that divide each other"
            )

    def wrap(self, linear: nn.Linear, target: Target) -> nn.Module:
        """Put the rotation in front of the projection; it starts as none."""
        size = block_size(self.config, linear.in_features, target.rank)
        coft, eps = self.config.coft, self.config.eps
        return peft_layer(linear, peft.OFTConfig, r=0, oft_block_size=size, coft=coft, eps=eps)  # type: ignore[no-any-return]

    def tensors(self, layer: Any) -> Mapping[str, Tensor]:
        """Return the upper triangles [blocks, size * (size - 1) / 2] of the skew-symmetric generators."""
        return {"oft_R.weight": layer.oft_R[NAME].weight}

    def delta(self, layer: Any) -> Tensor:
        """Return the difference that rotating the inputs makes to the weight."""
        weight = self.frozen(layer)
        _, rotation = _constrained(layer)
        return weight @ rotation.T - weight

    def files(self, layers: Mapping[str, Any], metadata: Mapping[str, str]) -> Mapping[str, bytes]:
        """Return a PEFT folder with one block size for all projections."""
        names = sorted(layers, key=layer_order)
        common = math.lcm(*(layer.oft_block_size[NAME] for layer in layers.values()))
        tensors = {
            f"{PEFT_PREFIX}{name}.oft_R.weight": _widened(
                _constrained(layers[name])[0], common, layers[name].in_features
            )
            for name in names
        }
        settings = {
            "peft_version": peft.__version__,
            "r": 0,
            "oft_block_size": common,
            "target_modules": names,
            "coft": self.config.coft,
            "eps": self.config.eps,
            "block_share": False,
            "use_cayley_neumann": True,
            "num_cayley_neumann_terms": 5,
        }
        return peft_folder("OFT", settings, tensors, metadata)


def _constrained(layer: Any) -> tuple[Tensor, Tensor]:
    """Return generators and rotation [in, in] with COFT's bound kept; the layer's own are left as they are."""
    module = copy.deepcopy(layer.oft_R[NAME])
    rotation = module.get_weight()  # changes the generators of the copy
    return module.weight.detach(), rotation.detach()


def _widened(generators: Tensor, size: int, in_features: int) -> Tensor:
    """Return the same rotation in larger blocks: each holds several small ones on its diagonal.

    Args:
        generators: [blocks, n * (n - 1) / 2] upper triangles, row by row, for blocks of n.
        size: block size wanted, a multiple of n.
        in_features: inputs of the projection, a multiple of `size`.
    """
    own = in_features // len(generators)
    blocks = generators.new_zeros(len(generators), own, own)
    rows, columns = torch.triu_indices(own, own, 1)
    blocks[:, rows, columns] = generators
    wide = torch.stack([torch.block_diag(*group) for group in blocks.split(size // own)])
    rows, columns = torch.triu_indices(size, size, 1)
    return wide[:, rows, columns]
