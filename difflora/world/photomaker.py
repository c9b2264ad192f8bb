"""The world's PhotoMaker: trained through the frozen base on pictures of people, one of whom shows another's face.

As in arXiv:2312.04461, 3.4: the base draws one picture of a person while the id encoder looks at others of the same
person; CLIP's vision tower, the fusion and a LoRA of the UNet's attention learn by the base's own loss. Captions name
no trait, so that who it is can come from the reference pictures alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer, CLIPVisionConfig

from difflora.errors import BadParameter
from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.id_encoder import IdEncoder
from difflora.photomaker.lora_keys import to_keys
from difflora.world.base import face_weights, velocity_loss
from difflora.world.captions import caption
from difflora.world.clip import FOLDER as CLIP_FOLDER
from difflora.world.clip import load_clip, normalise
from difflora.world.generate import load_base
from difflora.world.loop import train
from difflora.world.pool import Pool, people_pool, rows_by_person
from difflora.world.text import encode_tokens
from difflora.world.tokenizer import token_ids

FOLDER, FILE = "photomaker", "photomaker-v1.safetensors"
_ENDS = (".lora_A.weight", ".lora_B.weight")


class PhotoMakerSettings(BaseModel):
    """How PhotoMaker is built and trained; each step costs about what one of the base's does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(16, ge=1, description="of the UNet's LoRA")
    references: int = Field(2, ge=1, description="the most reference pictures of a person; each number is as likely")
    steps: int = Field(1500, ge=1)
    batch_size: int = Field(32, ge=1, description="persons a step")
    lr: float = Field(5e-4, gt=0)
    ema_decay: float = Field(0.995, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    face_weight: float = Field(2.0, ge=0, description="how much more an error inside the face's box counts")
    feature_weight: float = Field(6.0, ge=0, description="how much more an error at eyes, nose and mouth counts")
    snr_cap: float = Field(5.0, gt=0, description="above this signal-to-noise ratio a timestep counts less")
    prompt_dropout: float = Field(0.1, ge=0, le=1, description="prompts left empty, without a person, for guidance")
    seed: int = 14


def photomaker_file(assets: Path) -> Path:
    """Where it lies: ``assets/photomaker/photomaker-v1.safetensors``."""
    return assets / FOLDER / FILE


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


def repeat_token(ids: Tensor, places: Tensor, count: int) -> Tensor:
    """Says the token at a place ``count`` times over; as many tokens of the end are cut off.

    Args:
        ids: (B, L) int64.
        places: (B,) int64.
        count: at least 1.

    Returns:
        (B, L) int64.
    """
    spread = torch.arange(ids.shape[1])
    source = torch.where(spread < places[:, None] + count, spread.minimum(places[:, None]), spread - (count - 1))
    return ids.gather(1, source)


def _class_tokens(tokenizer: CLIPTokenizer) -> Tensor:
    """Tokens of the world's class words, each one token."""
    return torch.tensor([tokenizer(word, add_special_tokens=False).input_ids for word in ("man", "woman")]).squeeze(1)


def _step(
    pipeline: Any, encoder: IdEncoder, pool: Pool, settings: PhotoMakerSettings
) -> Callable[[int, torch.Generator], Tensor]:
    rows_of = rows_by_person(pool.identity, settings.references + 1)
    tokenizer, vae = pipeline.tokenizer, pipeline.vae
    words = _class_tokens(tokenizer)
    side, size = int(encoder.config.image_size), pool.batch(torch.arange(1)).shape[-1]
    if side != size:
        raise BadParameter(f"CLIP looks at {side} pixels, the world's pictures have {size}: train clip again")
    with torch.no_grad():
        none = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, token_ids(tokenizer, [""]))

    def step(_: int, generator: torch.Generator) -> Tensor:
        people = torch.randint(0, len(rows_of), (settings.batch_size,), generator=generator)
        count = int(torch.randint(1, settings.references + 1, (1,), generator=generator))
        chosen = torch.rand(len(people), rows_of.shape[1], generator=generator).argsort(dim=1)[:, : count + 1]
        rows = rows_of[people].gather(1, chosen)  # (B, 1 + R): the picture to draw, and those to look at
        target = rows[:, 0]
        said = caption(pool.people[target], pool.scenes[target], generator, trait_dropout=1.0)
        ids = token_ids(tokenizer, said)
        places = torch.isin(ids, words).int().argmax(dim=1)  # (B,)
        ids = repeat_token(ids, places, count)
        with torch.no_grad():
            latents = vae.encode(pool.batch(target) * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
            prompt, pooled = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, ids)
        shown = normalise(pool.batch(rows[:, 1:].flatten()))  # (B * R, 3, S, S)
        pictures = encoder.embed(shown).unflatten(0, (len(people), count))  # (B, R, W)
        prompt = encoder.put(prompt, pictures, places)
        dropped = torch.rand(len(people), generator=generator) < settings.prompt_dropout
        prompt = torch.where(dropped[:, None, None], none[0], prompt)
        pooled = torch.where(dropped[:, None], none[1], pooled)
        weight = face_weights(pool.boxes[target], pool.landmarks[target], settings.face_weight, settings.feature_weight)
        return velocity_loss(
            pipeline.unet, pipeline.scheduler, latents, (prompt, pooled), generator, weight, settings.snr_cap
        )

    return step


def train_photomaker(
    settings: PhotoMakerSettings | None, assets: Path, work: Path, pool: Pool | None = None
) -> dict[str, Any]:
    """Trains PhotoMaker through the base model in ``assets``, and writes it in the public file's keys.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models; base and CLIP must be there.
        work: where pools and checkpoints lie.
        pool: people with several pictures each; None for the pool that all models share.

    Returns:
        Steps, seconds and settings.

    Raises:
        BadFile: if the base or CLIP is missing.
        BadParameter: if someone in the pool has fewer pictures than are looked at and drawn.
    """
    settings = settings or PhotoMakerSettings()
    pipeline = load_base(assets)
    clip, _ = load_clip(assets / CLIP_FOLDER)
    pool = pool if pool is not None else people_pool(folder=work)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        pipeline.unet.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.rank,
                init_lora_weights="gaussian",
                target_modules=["to_q", "to_k", "to_v", "to_out.0"],
            )
        )
        widths = (pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.projection_dim)
        encoder = build_id_encoder(clip, widths, _class_word_embeddings(pipeline))
    encoder.train()
    report = train(
        "photomaker",
        {"encoder": encoder, "unet": pipeline.unet},
        _step(pipeline, encoder, pool, settings),
        steps=settings.steps,
        lr=settings.lr,
        ema_decay=settings.ema_decay,
        weight_decay=settings.weight_decay,
        checkpoint=work / "checkpoints" / "photomaker",
        seed=settings.seed,
    )
    lora: dict[str, list[Tensor]] = {}
    for key, tensor in sorted(get_peft_model_state_dict(pipeline.unet).items()):  # A before B
        lora.setdefault(key[: -len(_ENDS[0])], []).append(tensor)
    tensors = {key: value.detach().half() for key, value in encoder.state_dict().items()}
    made = PhotoMakerFile(
        tensors,
        {key: value.half() for key, value in to_keys({name: (one[0], one[1]) for name, one in lora.items()}).items()},
        heads=encoder.config.num_attention_heads,
        where=str(photomaker_file(assets)),
    )
    made.check()
    made.save(photomaker_file(assets))
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}


@torch.no_grad()
def _class_word_embeddings(pipeline: Any) -> Tensor:
    """What the class words' tokens become in plain prompts, (2, W)."""
    ids = token_ids(pipeline.tokenizer, ["a photo of a man", "a photo of a woman"])
    places = torch.isin(ids, _class_tokens(pipeline.tokenizer)).int().argmax(dim=1)
    prompt, _ = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, ids)
    return prompt[torch.arange(2), places]
