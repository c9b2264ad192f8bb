"""Where PhotoMaker begins: the person is written where words leave room, and its LoRA reads exactly there.

What a prompt's tokens hold varies in some directions by thousands of times as much as in others. A vector of the person
that is put in directions that words hardly use neither hides the class word from the attention's keys nor is drowned
by other words in its values. Left to themselves, fusion and LoRA would have to find such directions first, each
seeing through the other, which starts at zero. The first direction is a mark that every such token has (``attention``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.photomaker.id_encoder import IdEncoder

_RIDGE = 1e-3


@dataclass(frozen=True)
class Room:
    """Directions of the prompt embeddings that words leave.

    Attributes:
        directions: (1 + R, W) float32, orthonormal; along the first lies the mark.
        size: how far mark and person reach: the mark's length, and the largest deviation of a person's coordinates.
    """

    directions: Tensor
    size: float

    @property
    def reader(self) -> Tensor:
        """(1 + R, W): gives the mark, 1, and a person's coordinates, of at most unit deviation, from their token."""
        return self.directions / self.size


def find_room(tokens: Tensor, rank: int, size: float) -> Room:
    """The directions in which tokens vary least.

    Args:
        tokens: (N, W) prompt embeddings of all tokens of many prompts.
        rank: 1 + R, how many.
        size: see ``Room``.
    """
    centred = tokens - tokens.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(tokens))  # by rising variance
    return Room(vectors[:, :rank].T.contiguous(), size)


@torch.no_grad()
def write_into(encoder: IdEncoder, room: Room, words: Tensor, vectors: Tensor, traits: Tensor) -> float:
    """Sets the fusion's first output layer so that it adds the mark and, as far as they are read, a person's traits.

    Ridge regression of traits on the layer's input; of what it foretells the R directions of most variance are kept, so
    that what is read badly is written small.

    Args:
        encoder: its ``fuse_module.mlp1.fc2`` is set.
        room: where to write.
        words: (N, W) the class word's embedding for each picture.
        vectors: (N, W) the pictures' vectors.
        traits: (N, T) what they show; T at least R.

    Returns:
        The share of the traits' variance that is foretold.
    """
    layer, mlp = encoder.fuse_module.mlp1.fc2, encoder.fuse_module.mlp1
    hidden = mlp.act_fn(mlp.fc1(mlp.layernorm(torch.cat([words, vectors], dim=-1))))  # (N, W)
    centre = hidden.mean(dim=0)
    hidden, wanted = hidden - centre, traits - traits.mean(dim=0)
    penalty = _RIDGE * len(hidden) * hidden.var(dim=0).mean() * torch.eye(hidden.shape[1])
    weights = torch.linalg.solve(hidden.T @ hidden + penalty, hidden.T @ wanted)  # (W, T)
    foretold = hidden @ weights  # (N, T)
    _, _, axes = torch.linalg.svd(foretold, full_matrices=False)
    mark, places = room.directions[0], room.directions[1:]
    kept = weights @ axes[: len(places)].T  # (W, R)
    kept = kept * room.size / (hidden @ kept).std(dim=0).max()
    layer.weight.copy_(places.T @ kept.T)
    layer.bias.copy_(room.size * mark - layer.weight @ centre)
    return float(foretold.square().sum() / wanted.square().sum())
