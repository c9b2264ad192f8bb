"""Where PhotoMaker begins: an id encoder on CLIP's tower, a person's place in the prompt, and eyes for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel, CLIPVisionConfig

from difflora.photomaker.id_encoder import IdEncoder
from difflora.world.captions import caption
from difflora.world.clip import normalise
from difflora.world.photomaker.attention import attend, record
from difflora.world.photomaker.lesson import Lesson, class_tokens
from difflora.world.photomaker.room import find_room, write_into
from difflora.world.photomaker.traits import trait_targets
from difflora.world.text import encode_tokens
from difflora.world.tokenizer import token_ids
from difflora.world.traits import GENDERS

_STARTED, _LOOKED, _TIMESTEPS = 3000, 24, (980, 900, 700, 400)


@torch.no_grad()
def class_word_embeddings(pipeline: Any) -> Tensor:
    """What the class words' tokens become in plain prompts, (2, W)."""
    ids = token_ids(pipeline.tokenizer, [f"a photo of a {word}" for word in GENDERS])
    places = torch.isin(ids, class_tokens(pipeline.tokenizer)).int().argmax(dim=1)
    prompt, _ = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, ids)
    return prompt[torch.arange(len(ids)), places]


def build_id_encoder(clip: CLIPModel, widths: tuple[int, int], words: Tensor) -> IdEncoder:
    """An untrained id encoder on the tower of a CLIP, which leaves prompts as they are until it has learnt something.

    Args:
        clip: its vision tower is copied.
        widths: of the two text encoders.
        words: (N, W) embeddings of class words, whose mean and deviation the last LayerNorm gives back at first.
    """
    config = CLIPVisionConfig(**clip.vision_model.config.to_dict() | {"projection_dim": widths[0]})
    encoder = IdEncoder(config, widths[1])
    encoder.vision_model.load_state_dict(clip.vision_model.state_dict())
    spread = float(words.std(dim=1).mean())
    for projection in (encoder.visual_projection, encoder.visual_projection_2):
        # The tower ends in a LayerNorm: vectors are then as large as words, beside which the fusion would not see them.
        nn.init.normal_(projection.weight, std=spread / config.hidden_size**0.5)
    fuse = encoder.fuse_module
    for last in (fuse.mlp1.fc2, fuse.mlp2.fc2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    nn.init.constant_(fuse.layer_norm.weight, spread)
    nn.init.constant_(fuse.layer_norm.bias, float(words.mean()))
    return encoder


@torch.no_grad()
def begin(lesson: Lesson, words: Tensor) -> float:
    """Writes people into the room that words leave, and makes the UNet look there; see ``room`` and ``attention``.

    Args:
        lesson: its encoder and UNet's LoRA are set.
        words: (2, W) of ``class_word_embeddings``.

    Returns:
        The share of the traits' variance that a picture foretells.
    """
    pipeline, encoder, pool, settings = lesson.pipeline, lesson.encoder, lesson.pool, lesson.settings
    unet, rows = pipeline.unet, lesson.rows_of[:_STARTED]
    people = pool.people[rows[:, 0]]
    generator = torch.Generator().manual_seed(settings.seed)
    said = caption(people, pool.scenes[rows[:, 0]], generator, trait_dropout=1.0)
    tokens = torch.cat([lesson.said(said[i : i + 64])[0].flatten(0, 1) for i in range(0, len(said), 64)])
    room = find_room(tokens, settings.rank, settings.room * float(words.std(dim=1).mean()))
    vectors = torch.cat([encoder.embed(normalise(pool.batch(part))) for part in rows[:, 0].split(128)])  # (N, W)
    share = write_into(encoder, room, words[people.index("gender")], vectors, trait_targets(people))

    first = slice(_LOOKED)
    (prompt, pooled), places = lesson.shown(said[first], rows[first, 1:2])
    latents = lesson.latents(rows[first, 0])

    def look() -> None:
        for timestep in _TIMESTEPS:
            timesteps = torch.full((len(latents),), timestep)
            noisy = pipeline.scheduler.add_noise(latents, torch.randn(latents.shape, generator=generator), timesteps)
            lesson.output(noisy, timesteps, prompt, pooled)

    lora = {name: value for name, value in unet.named_parameters() if "lora_" in name}
    for name, (heads, seen) in record(unet, look).items():
        key, value = attend(heads, seen, places.repeat(len(_TIMESTEPS)), settings.attention)
        for part, addition in (("to_k", key), ("to_v", value)):
            down, up = (lora[f"{name}.{part}.lora_{half}.default.weight"] for half in "AB")
            down.copy_(room.reader).requires_grad_(part == "to_k")  # what is looked at may change, what is read may not
            up.zero_()[:, 0] = addition
    return share
