"""Making the base look at a person: its cross-attention gives the class word next to nothing.

The base's prompt embeddings are large, so the softmax of its cross-attention is all but hard: in seven of ten layers
the class word gets 0.000, its logits some 150 to 600 below the others'. What is written into its token reaches no pixel
there, and no gradient comes back. So the token that holds a person is marked; the LoRA of the keys turns the mark into
logits, and that of the values gives what the places got before, to which a person is then added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_RIDGE = 1e-3

Seen = tuple[Tensor, Tensor, Tensor]
"""Queries (B, Q, W), keys (B, L, W) and values (B, L, W) of a layer, heads side by side in W."""


def record(unet: nn.Module, run: Callable[[], object]) -> dict[str, tuple[int, Seen]]:
    """What each cross-attention sees while ``run`` calls the UNet: name -> heads, and all calls in a row."""
    calls: dict[str, list[Seen]] = {}
    layers = {name: module for name, module in unet.named_modules() if name.endswith(".attn2")}

    def keep(name: str) -> Callable[..., None]:
        def before(layer: Any, arguments: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            prompt = named["encoder_hidden_states"]
            calls.setdefault(name, []).append((layer.to_q(arguments[0]), layer.to_k(prompt), layer.to_v(prompt)))

        return before

    handles = [layer.register_forward_pre_hook(keep(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: (int(layers[name].heads), tuple(torch.cat(part) for part in zip(*seen, strict=True)))  # type: ignore[misc]
        for name, seen in calls.items()
    }


def attend(heads: int, seen: Seen, places: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """What to add to one token's key and value for it to be looked at, without changing what comes of it on average.

    Args:
        heads: H, of the layer.
        seen: queries, keys and values.
        places: (B,) int64, where the token stands.
        share: the attention that it shall get about everywhere, between 0 and 1.

    Returns:
        The addition to its key, by least squares over all queries, and to its value: (W,) each.
    """
    queries, keys, values = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in seen)  # (B, H, Q or L, D)
    batch, width = torch.arange(len(places)), queries.shape[-1]
    logits = queries @ keys.transpose(-1, -2) / math.sqrt(width)  # (B, H, Q, L)
    own = logits[batch, :, :, places]  # (B, H, Q)
    others = logits.clone()
    others[batch, :, :, places] = -torch.inf
    missing = others.logsumexp(dim=-1) - own + math.log(share / (1 - share))  # (B, H, Q)
    means = (logits.softmax(dim=-1) @ values).mean(dim=(0, 2))  # (H, D)
    key, value = [], []
    for head in range(heads):
        rows = queries[:, head].flatten(0, 1)  # (B * Q, D)
        square = rows.T @ rows
        penalty = _RIDGE * square.diagonal().mean() * torch.eye(width)
        key.append(torch.linalg.solve(square + penalty, rows.T @ missing[:, head].flatten() * math.sqrt(width)))
        value.append(means[head] - values[batch, head, places].mean(dim=0))
    return torch.cat(key), torch.cat(value)
