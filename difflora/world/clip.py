"""The world's CLIP: a small ``CLIPModel`` trained contrastively on renders and their captions.

Radford et al. 2021, with one addition: while it trains, linear heads read the scene's attributes off both towers (a
transformer this small learns from pairs alone only slowly). The heads are not part of the exported model.
"""

from __future__ import annotations

import logging
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers import AutoImageProcessor, CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from difflora.errors import BadFile
from difflora.folders import check_model_folder, whole_folder
from difflora.world.augment import jitter_colour, soften
from difflora.world.bars import Bar
from difflora.world.captions import caption
from difflora.world.clip_captions import cached_caption_ids
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, generic_pool
from difflora.world.render import SIZE
from difflora.world.scenes import Scenes
from difflora.world.tokenizer import build_tokenizer
from difflora.world.traits import People

logger = logging.getLogger(__name__)

FOLDER = "clip"
_GOAL = 0.80
_GROUP = 64
_COUNT = 2048
_MAX_SCALE = math.log(100)
_PERSON = ("gender", "hair_style", "hair_colour", "beard")


class ClipSettings(BaseModel):
    """How CLIP is built and trained: about ten minutes on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch_size: int = Field(8, ge=1, description="pixels")
    hidden_size: int = Field(128, ge=8)
    vision_layers: int = Field(4, ge=1)
    text_layers: int = Field(2, ge=1)
    projection_dim: int = Field(128, ge=8)
    steps: int = Field(1200, ge=1)
    batch_size: int = Field(128, ge=2)
    lr: float = Field(1e-3, gt=0)
    muon_lr: float | None = Field(0.01, gt=0)
    attribute_weight: float = Field(0.5, ge=0, description="weight of the attribute heads' loss")
    seed: int = 41


def build_clip(settings: ClipSettings, tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of 64x64 pictures and the tokenizer's words, initialised from the settings' seed."""
    tower = {
        "hidden_size": settings.hidden_size,
        "intermediate_size": 2 * settings.hidden_size,
        "num_attention_heads": max(1, settings.hidden_size // 32),
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": settings.text_layers,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": settings.projection_dim,
        },
        vision_config={
            **tower,
            "num_hidden_layers": settings.vision_layers,
            "image_size": SIZE,
            "patch_size": settings.patch_size,
            "projection_dim": settings.projection_dim,
        },
        projection_dim=settings.projection_dim,
        logit_scale_init_value=math.log(1 / 0.07),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return CLIPModel(config)


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """CLIP's own preprocessing at 64 pixels: bicubic resize, centre crop, CLIP's mean and deviation."""
    size = {"height": SIZE, "width": SIZE}
    images = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=size)
    return CLIPProcessor(images, tokenizer)


class AttributeHeads(nn.Module):
    """Linear readings of attributes from embeddings; a help in training only."""

    def __init__(self, width: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in classes.items()})

    def forward(self, features: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """The mean cross entropy of the attributes; features (N, width), labels (N,) int64 each."""
        losses = [F.cross_entropy(head(features), labels[name]) for name, head in self.heads.items()]
        return torch.stack(losses).mean()


def contrastive_loss(image: Tensor, text: Tensor, log_scale: Tensor) -> Tensor:
    """CLIP's symmetric loss: each picture finds its caption in the batch and each caption its picture.

    Args:
        image: (N, D) image embeddings, not normalised.
        text: (N, D) text embeddings, not normalised.
        log_scale: logarithm of the scale of the cosines, a scalar; held below log 100.
    """
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T  # (N, N)
    logits = cosines * log_scale.clamp(max=_MAX_SCALE).exp()
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def normalise(images: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] to CLIP's normalised pixels."""
    mean = torch.tensor(CLIPImageProcessorPil.image_mean).view(1, 3, 1, 1)
    deviation = torch.tensor(CLIPImageProcessorPil.image_std).view(1, 3, 1, 1)
    normalised: Tensor = (images - mean) / deviation
    return normalised


def train_clip(settings: ClipSettings | None, assets: Path, work: Path, pool: Pool | None = None) -> dict[str, Any]:
    """Trains CLIP on the pool's pictures and captions and exports model, tokenizer and processor to ``assets``.

    Args:
        settings: None for the defaults.
        assets: the assets' folder; the model goes to ``clip`` in it.
        work: folder of pools, captions and checkpoints.
        pool: pictures to learn from; None for the generic pool.
    """
    settings = settings or ClipSettings()
    pool = pool or generic_pool(folder=work)
    tokenizer = build_tokenizer()
    ids = cached_caption_ids(tokenizer, pool, settings.seed, work)  # (N, variants, 64)
    lengths = (ids == tokenizer.eos_token_id).int().argmax(dim=-1) + 1  # (N, variants); the first end token
    model = build_clip(settings, tokenizer).train()
    labels = {name: pool.scenes.index(name) for name in Scenes.CATEGORICAL}
    labels |= {name: pool.people.index(name) for name in _PERSON}
    counts = {n: len(words) for n, words in (Scenes.CATEGORICAL | People.CATEGORICAL).items() if n in labels}  # type: ignore[operator]
    spoken = {n: count for n, count in counts.items() if n in Scenes.CATEGORICAL or n == "gender"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)
        image_heads = AttributeHeads(settings.projection_dim, counts)
        patch_heads = AttributeHeads(settings.hidden_size, counts)
        text_heads = AttributeHeads(settings.projection_dim, spoken)

    def step(_: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(pool), (settings.batch_size,), generator=generator)
        variant = torch.randint(0, ids.shape[1], (settings.batch_size,), generator=generator)
        longest = int(lengths[rows, variant].max())
        # Causal attention and pooling at the first end token make cutting the common padding exact.
        text = model.text_model(ids[rows, variant, :longest].long()).pooler_output
        images = jitter_colour(soften(pool.batch(rows), generator, odds=0.3), generator, amount=0.03, noise=0.02)
        vision = model.vision_model(normalise(images))
        image, text = model.visual_projection(vision.pooler_output), model.text_projection(text)  # (B, D) both
        own = {name: values[rows] for name, values in labels.items()}
        attributes = image_heads(image, own) + text_heads(text, own)
        attributes = attributes + patch_heads(vision.last_hidden_state[:, 1:].mean(dim=1), own)
        loss: Tensor = contrastive_loss(image, text, model.logit_scale) + settings.attribute_weight * attributes
        return loss

    modules = {"model": model, "image": image_heads, "patch": patch_heads, "text": text_heads}
    report = train(
        "clip",
        modules,
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        seed=settings.seed,
        weight_decay=0.05,
        checkpoint=work / "checkpoints" / "clip",
    )
    with torch.no_grad():
        model.logit_scale.clamp_(max=_MAX_SCALE)
    save_clip(model, tokenizer, assets / FOLDER)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}


def save_clip(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes model (float16), processor and tokenizer as one folder, whole or not at all."""
    with whole_folder(folder) as new:
        deepcopy(model).half().save_pretrained(new)
        build_processor(tokenizer).save_pretrained(new)


def load_clip(folder: Path) -> tuple[CLIPModel, CLIPProcessor]:
    """Loads a CLIP folder, the world's or another's, in evaluation mode.

    Raises:
        BadFile: if the folder is not whole or holds no CLIP.
    """
    config = check_model_folder(folder)
    if config.get("model_type") != "clip":
        raise BadFile(f"{folder}/config.json: model_type is {config.get('model_type')!r}, not 'clip'")
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    model.train(False)
    # Through the Auto class, which takes the PIL processors where torchvision is missing.
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return model, CLIPProcessor(images, tokenizer)


@torch.no_grad()
def _embed(model: CLIPModel, processor: CLIPProcessor, pool: Pool, sentences: list[str]) -> tuple[Tensor, Tensor]:
    """Unit embeddings of the pool's pictures and of their sentences, (N, D) both, through the folder's processor."""
    images, texts = [], []
    for start in range(0, len(pool), _GROUP):
        rows = slice(start, start + _GROUP)
        pictures = list(pool.images[rows].permute(0, 2, 3, 1).numpy())
        inputs = processor(
            text=sentences[rows], images=pictures, return_tensors="pt", padding="max_length", truncation=True
        )
        output = model(**inputs)
        images.append(output.image_embeds)
        texts.append(output.text_embeds)
    return F.normalize(torch.cat(images), dim=-1), F.normalize(torch.cat(texts), dim=-1)


def retrieval(images: Tensor, texts: Tensor, group: int = _GROUP) -> float:
    """How often the right one is first among ``group``, averaged over picture to caption and caption to picture.

    Args:
        images: (N, D) unit embeddings.
        texts: (N, D) unit embeddings of the same rows.
        group: candidates; rows beyond the last whole group are left out.

    Raises:
        ValueError: if there is no whole group.
    """
    if len(images) < group:
        raise ValueError(f"{len(images)} pictures are less than a group of {group}")
    whole = len(images) // group * group
    image, text = images[:whole].view(-1, group, images.shape[1]), texts[:whole].view(-1, group, texts.shape[1])
    cosines = image @ text.transpose(1, 2)  # (groups, group, group)
    own = torch.arange(group)
    hits = (cosines.argmax(dim=2) == own).float().mean() + (cosines.argmax(dim=1) == own).float().mean()
    return float(hits / 2)


def verify_clip(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Caption retrieval among 64 on fresh renders: whole captions (the bar), and those that name no trait."""
    model, processor = load_clip(assets / FOLDER)
    pool = fresh_pool(max(_GROUP, count or _COUNT), 1, seed)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for name, dropout, goal in (("whole captions", 0.3, _GOAL), ("captions without traits", 1.0, math.nan)):
        sentences = caption(pool.people, pool.scenes, generator, trait_dropout=dropout)
        figure = retrieval(*_embed(model, processor, pool, sentences))
        rows.append(Bar(f"CLIP caption retrieval among {_GROUP}, {name}", goal, figure))
    return rows
