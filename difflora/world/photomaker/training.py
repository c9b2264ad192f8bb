"""The world's PhotoMaker: trained through the frozen base on pictures of people, one of whom shows another's face.

As in arXiv:2312.04461, 3.4: the base draws one picture of a person while the id encoder looks at others of the same
person; CLIP's vision tower, the fusion and a LoRA of the UNet's attention learn through it. Captions name no trait, so
that who it is can come from the reference pictures alone. The authors had 112,000 pictures and two weeks of eight GPUs;
here the tower first learns to read traits, fusion and LoRA begin where they can see each other (``room``), and what
the base draws when traits are named is learnt before its own loss (``words``).
"""

from __future__ import annotations

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
from difflora.world.base import TRAIN_STEPS, face_weights, size_ids, velocity_loss
from difflora.world.captions import caption
from difflora.world.clip import FOLDER as CLIP_FOLDER
from difflora.world.clip import load_clip, normalise
from difflora.world.generate import load_base
from difflora.world.loop import train
from difflora.world.photomaker.attention import attend, record
from difflora.world.photomaker.room import find_room, write_into
from difflora.world.photomaker.traits import TraitHead, trait_targets, traits_step
from difflora.world.photomaker.words import name_traits, visible_traits
from difflora.world.pool import Pool, people_pool, rows_by_person
from difflora.world.text import encode_tokens
from difflora.world.tokenizer import token_ids

FOLDER, FILE = "photomaker", "photomaker-v1.safetensors"
_ENDS = (".lora_A.weight", ".lora_B.weight")
_VALUES = "attn2.to_v"
_CLASS_WORDS = ("man", "woman")
_STARTED, _LOOKED, _TIMESTEPS = 3000, 24, (980, 900, 700, 400)
_WARMUP = 20


class PhotoMakerSettings(BaseModel):
    """How PhotoMaker is built and trained; a step through the base costs about what one of the base's does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(32, ge=2, description="of the UNet's LoRA: a mark, and the numbers that it reads a person from")
    references: int = Field(2, ge=1, description="the most reference pictures of a person; each number is as likely")
    traits_steps: int = Field(600, ge=1, description="in which the tower learns to read traits")
    traits_batch_size: int = Field(128, ge=1)
    traits_lr: float = Field(1e-3, gt=0)
    room: float = Field(
        0.6, gt=0, description="how far a person reaches into the room, over the class word's deviation"
    )
    attention: float = Field(0.3, gt=0, lt=1, description="what a person's token shall get of it at first")
    words_steps: int = Field(
        400, ge=0, description="through the base, with its output under named traits as the target"
    )
    words_from: int = Field(800, ge=0, lt=TRAIN_STEPS, description="the timestep above which words count most")
    words_share: float = Field(
        0.6, ge=0, le=1, description="of timesteps drawn above it; the others are drawn anywhere"
    )
    steps: int = Field(0, ge=0, description="through the base with its own loss")
    batch_size: int = Field(32, ge=1, description="persons a step through the base")
    lr: float = Field(1e-4, gt=0)
    value_rate: float = Field(
        300.0, gt=0, description="how many times lr the values' LoRA learns at, which is read from the room"
    )
    ema_decay: float = Field(0.98, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    face_weight: float = Field(6.0, ge=0, description="how much more an error inside the face's box counts")
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
    return torch.tensor([tokenizer(word, add_special_tokens=False).input_ids for word in _CLASS_WORDS]).squeeze(1)


class _Lesson:
    """One step through the base: people, a picture of each to draw, and others of theirs to look at."""

    def __init__(self, pipeline: Any, encoder: IdEncoder, pool: Pool, settings: PhotoMakerSettings) -> None:
        self.pipeline, self.encoder, self.pool, self.settings = pipeline, encoder, pool, settings
        self.rows_of = rows_by_person(pool.identity, settings.references + 1)
        self.words = _class_tokens(pipeline.tokenizer)
        side, size = int(encoder.config.image_size), pool.batch(torch.arange(1)).shape[-1]
        if side != size:
            raise BadParameter(f"CLIP looks at {side} pixels, the world's pictures have {size}: train clip again")
        with torch.no_grad():
            self.none = self.said([""])

    def __call__(self, i: int, generator: torch.Generator) -> Tensor:
        """The loss of step ``i``: of named traits at first, then the base's own."""
        settings, pool = self.settings, self.pool
        people = torch.randint(0, len(self.rows_of), (settings.batch_size,), generator=generator)
        count = int(torch.randint(1, settings.references + 1, (1,), generator=generator))
        chosen = torch.rand(len(people), self.rows_of.shape[1], generator=generator).argsort(dim=1)[:, : count + 1]
        rows = self.rows_of[people].gather(1, chosen)  # (B, 1 + R): the picture to draw, and those to look at
        target = rows[:, 0]
        said = caption(pool.people[target], pool.scenes[target], generator, trait_dropout=1.0)
        latents = self.latents(target)
        weight = face_weights(pool.boxes[target], pool.landmarks[target], settings.face_weight, settings.feature_weight)
        (prompt, pooled), _ = self.shown(said, rows[:, 1:])
        unet, scheduler = self.pipeline.unet, self.pipeline.scheduler
        if i < settings.words_steps:
            named = [
                name_traits(text, visible_traits(pool.people, int(row))) for text, row in zip(said, target, strict=True)
            ]
            return self._words_loss(latents, named, (prompt, pooled), generator, weight)
        dropped = torch.rand(len(people), generator=generator) < settings.prompt_dropout
        prompt = torch.where(dropped[:, None, None], self.none[0], prompt)
        pooled = torch.where(dropped[:, None], self.none[1], pooled)
        return velocity_loss(unet, scheduler, latents, (prompt, pooled), generator, weight, settings.snr_cap)

    def _words_loss(
        self,
        latents: Tensor,
        named: list[str],
        embeddings: tuple[Tensor, Tensor],
        generator: torch.Generator,
        weight: Tensor,
    ) -> Tensor:
        unet, count = self.pipeline.unet, len(latents)
        noise = torch.randn(latents.shape, generator=generator)
        early = torch.randint(self.settings.words_from, TRAIN_STEPS, (count,), generator=generator)
        anywhere = torch.randint(0, TRAIN_STEPS, (count,), generator=generator)
        timesteps = torch.where(torch.rand(count, generator=generator) < self.settings.words_share, early, anywhere)
        noisy = self.pipeline.scheduler.add_noise(latents, noise, timesteps)  # (B, C, 16, 16)

        with torch.no_grad():
            unet.disable_adapters()
            wanted = self.output(noisy, timesteps, *self.said(named))
            unet.enable_adapters()
        return ((self.output(noisy, timesteps, *embeddings) - wanted).square() * weight).mean()

    def output(self, noisy: Tensor, timesteps: Tensor, prompt: Tensor, pooled: Tensor) -> Tensor:
        """The UNet's prediction, (B, C, 16, 16)."""
        conditions = {"text_embeds": pooled, "time_ids": size_ids(len(noisy))}
        made: Tensor = self.pipeline.unet(
            noisy, timesteps, encoder_hidden_states=prompt, added_cond_kwargs=conditions
        ).sample
        return made

    @torch.no_grad()
    def latents(self, rows: Tensor) -> Tensor:
        """Scaled latents of pictures (B,), (B, C, 16, 16)."""
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(self.pool.batch(rows) * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
        return latents

    def shown(self, said: list[str], rows: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Embeddings of sentences that show the people of pictures (B, R), and the places (B,) of their class words."""
        ids = token_ids(self.pipeline.tokenizer, said)
        places = torch.isin(ids, self.words).int().argmax(dim=1)  # (B,)
        ids = repeat_token(ids, places, rows.shape[1])
        with torch.no_grad():
            prompt, pooled = encode_tokens(self.pipeline.text_encoder, self.pipeline.text_encoder_2, ids)
        pictures = self.encoder.embed(normalise(self.pool.batch(rows.flatten()))).unflatten(0, rows.shape)  # (B, R, W)
        return (self.encoder.put(prompt, pictures, places), pooled), places

    @torch.no_grad()
    def said(self, said: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of sentences alone."""
        ids = token_ids(self.pipeline.tokenizer, said)
        return encode_tokens(self.pipeline.text_encoder, self.pipeline.text_encoder_2, ids)


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
    checkpoints = work / "checkpoints" / "photomaker"
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
        words = _class_word_embeddings(pipeline)
        encoder = build_id_encoder(clip, widths, words)
        head = TraitHead(encoder.width, float(words.std(dim=1).mean()))
    lesson = _Lesson(pipeline, encoder, pool, settings)
    encoder.train()
    read = train(
        "photomaker: traits",
        {"encoder": encoder, "head": head},
        traits_step(encoder, head, pool, settings.traits_batch_size),
        steps=settings.traits_steps,
        lr=settings.traits_lr,
        checkpoint=checkpoints / "traits",
        seed=settings.seed,
    )
    share = _begin(lesson, words)
    report = train(
        "photomaker",
        {"encoder": encoder, "unet": pipeline.unet},
        lesson,
        steps=settings.words_steps + settings.steps,
        lr=settings.lr,
        rates={_VALUES + ".lora_B": settings.value_rate},
        ema_decay=settings.ema_decay,
        weight_decay=settings.weight_decay,
        checkpoint=checkpoints / "base",
        warmup=_WARMUP,
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
    return {
        "steps": read.steps + report.steps,
        "seconds": read.seconds + report.seconds,
        "traits_read": share,
        "settings": settings.model_dump(mode="json"),
    }


@torch.no_grad()
def _begin(lesson: _Lesson, words: Tensor) -> float:
    """Writes people into the room that words leave, and makes the UNet look there; see ``room`` and ``attention``.

    Returns:
        The share of the traits' variance that a picture foretells.
    """
    pipeline, encoder, pool, settings = lesson.pipeline, lesson.encoder, lesson.pool, lesson.settings
    unet, rows = pipeline.unet, lesson.rows_of[:_STARTED]
    generator = torch.Generator().manual_seed(settings.seed)
    said = caption(pool.people[rows[:, 0]], pool.scenes[rows[:, 0]], generator, trait_dropout=1.0)
    tokens = torch.cat([lesson.said(said[i : i + 64])[0].flatten(0, 1) for i in range(0, len(said), 64)])
    room = find_room(tokens, settings.rank, settings.room * float(words.std(dim=1).mean()))
    vectors = torch.cat([encoder.embed(normalise(pool.batch(part))) for part in rows[:, 0].split(128)])  # (N, W)
    own = words[torch.tensor([_CLASS_WORDS.index(gender) for gender in pool.people[rows[:, 0]].gender])]  # (N, W)
    share = write_into(encoder, room, own, vectors, trait_targets(pool.people[rows[:, 0]]))

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


@torch.no_grad()
def _class_word_embeddings(pipeline: Any) -> Tensor:
    """What the class words' tokens become in plain prompts, (2, W)."""
    ids = token_ids(pipeline.tokenizer, [f"a photo of a {word}" for word in _CLASS_WORDS])
    places = torch.isin(ids, _class_tokens(pipeline.tokenizer)).int().argmax(dim=1)
    prompt, _ = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, ids)
    return prompt[torch.arange(2), places]
