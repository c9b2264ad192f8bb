"""A token that nobody looked at is looked at, and what comes of it stays the same on average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from difflora.world.photomaker.attention import Seen, attend, record
from tests.tiny import sdxl

B, Q, L, HEADS, WIDTH = 6, 40, 9, 2, 8


def seen() -> tuple[Seen, torch.Tensor]:
    """Queries that have much in common, keys one of which is far from them, and large values."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(B, Q, HEADS * WIDTH, generator=generator) * 0.3 + 2
    keys = 3 * torch.randn(1, L, HEADS * WIDTH, generator=generator).repeat(B, 1, 1)
    values = 5 * torch.randn(1, L, HEADS * WIDTH, generator=generator).repeat(B, 1, 1)
    places = torch.tensor([2, 3, 4, 2, 3, 4])
    keys[torch.arange(B), places] = keys[0, 0] - 10  # nobody looks there
    values[torch.arange(B), places] = 3.0
    return (queries, keys, values), places


def look(parts: Seen, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to the token (B, H, Q), and what comes of it (B, Q, H * D)."""
    queries, keys, values = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
    weights = (queries @ keys.transpose(-1, -2) / math.sqrt(WIDTH)).softmax(-1)
    return weights[torch.arange(B), :, :, places], (weights @ values).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_attention_comes_and_the_output_stays(share: float) -> None:
    parts, places = seen()
    before, output = look(parts, places)
    assert before.max() < 1e-6
    key, value = attend(HEADS, parts, places, share)
    queries, keys, values = (part.clone() for part in parts)
    keys[torch.arange(B), places] += key
    values[torch.arange(B), places] += value
    after, changed = look((queries, keys, values), places)
    assert float(after.mean()) == pytest.approx(share, abs=0.2)
    assert after.mean() > 0.5 * share
    moved = (changed.mean((0, 1)) - output.mean((0, 1))).abs().max()
    without = keys.clone(), parts[2]
    assert moved < 0.3 * (look((queries, *without), places)[1].mean((0, 1)) - output.mean((0, 1))).abs().max()


def test_all_cross_attentions_are_recorded_and_left_alone() -> None:
    unet = sdxl().unet
    width, pooled = unet.config.cross_attention_dim, unet.config.projection_class_embeddings_input_dim
    size = unet.config.sample_size
    batch = torch.randn(2, unet.config.in_channels, size, size)
    times = 6 * unet.config.addition_time_embed_dim
    conditions = {"text_embeds": torch.randn(2, pooled - times), "time_ids": torch.ones(2, 6)}

    @torch.no_grad()
    def run() -> torch.Tensor:
        made: torch.Tensor = unet(
            batch, 5, encoder_hidden_states=torch.ones(2, 7, width), added_cond_kwargs=conditions
        ).sample
        return made

    def twice() -> None:
        run()
        run()

    plain = run()
    found = record(unet, twice)
    layers = {name: layer for name, layer in unet.named_modules() if name.endswith(".attn2")}
    assert found.keys() == layers.keys()
    for name, (heads, (queries, keys, values)) in found.items():
        assert heads == layers[name].heads
        assert len(queries) == len(keys) == 4
        assert keys.shape == values.shape == (4, 7, queries.shape[-1])
    assert torch.equal(run(), plain)
    assert not any(isinstance(m, nn.Module) and m._forward_pre_hooks for m in unet.modules())
