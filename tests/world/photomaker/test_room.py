"""A person is written where words leave room, as far as the person's traits are read."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPVisionConfig

from difflora.photomaker.id_encoder import IdEncoder
from difflora.world.photomaker.room import Room, find_room, write_into


def tokens() -> torch.Tensor:
    """Tokens of 12 numbers that fill eight directions, and hardly the other four."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]
    sizes = torch.tensor([10.0] * 8 + [0.01] * 4)
    return (torch.randn(500, 12, generator=generator) * sizes) @ turn.T + 3


def test_room_is_where_tokens_do_not_vary() -> None:
    words = tokens()
    room = find_room(words, 4, 2.0)
    torch.testing.assert_close(room.directions @ room.directions.T, torch.eye(4), atol=1e-5, rtol=0)
    assert ((words - words.mean(0)) @ room.directions.T).std() < 0.02
    assert ((words - words.mean(0)) @ room.reader.T).std() < 0.01
    person = torch.tensor([[1.0, -1.0, 0.5, 0.0]])  # the mark, and three coordinates
    torch.testing.assert_close(2.0 * person @ room.directions @ room.reader.T, person, atol=1e-5, rtol=0)


@pytest.fixture
def encoder() -> IdEncoder:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8
    )
    config.projection_dim = 4
    return IdEncoder(config, 8)


@torch.no_grad()
def test_what_is_written_are_the_traits_that_are_read(encoder: IdEncoder) -> None:
    generator = torch.Generator().manual_seed(1)
    words = tokens()[:400]
    vectors = torch.randn(400, 12, generator=generator)
    read = vectors[:, :2] * torch.tensor([1.0, 0.3])  # two traits that a vector holds, and three that it does not
    traits = torch.cat([read, torch.randn(400, 3, generator=generator)], dim=1)
    room = find_room(tokens(), 4, 2.0)
    word = words[:1].expand(400, -1)
    share = write_into(encoder, room, word, vectors, traits)
    assert 0.15 < share < 0.5, "about a quarter of the variance"
    written = encoder.fuse_module.mlp1(torch.cat([word, vectors], dim=1))  # (400, 12)
    coordinates = written @ room.reader.T
    torch.testing.assert_close(written, 2.0 * coordinates @ room.directions, atol=1e-4, rtol=0)  # nowhere else
    torch.testing.assert_close(coordinates[:, 0], torch.ones(400), atol=1e-4, rtol=0)  # the mark
    coordinates = coordinates[:, 1:]
    assert coordinates.mean(0).abs().max() < 1e-4
    assert float(coordinates.std(0).max()) == pytest.approx(1.0, abs=1e-3)
    best = coordinates.std(0).argmax()
    assert torch.corrcoef(torch.stack([coordinates[:, best], read[:, 0]]))[0, 1].abs() > 0.8
    assert coordinates.std(0).min() < 0.4, "what is read badly is written small"


def test_a_room_reads_at_most_one() -> None:
    room = Room(torch.eye(3)[:2], 4.0)
    assert torch.equal(room.reader, torch.eye(3)[:2] / 4)
