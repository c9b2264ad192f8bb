"""The base model's two text encoders, trained on captions alone before any picture is drawn from them.

SDXL takes its text encoders from CLIP, ready-made, and freezes them. These learn to say which concepts a caption names:
linear heads read them off the pooled embedding and off the mean of the hidden states that SDXL's cross-attention sees.
A UNet then learns what a word looks like, not what it means. The heads are not stored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from difflora.folders import check_model_folder, whole_folder
from difflora.world.bars import Bar
from difflora.world.cached import cached
from difflora.world.captions import caption
from difflora.world.concepts import concepts, named
from difflora.world.loop import train
from difflora.world.scenes import sample_scenes
from difflora.world.tokenizer import build_tokenizer, token_ids
from difflora.world.traits import sample_people

FOLDERS = ("base/text_encoder", "base/text_encoder_2")
_CAPTIONS = 60_000
_SEED = 4
_CHUNK = 2000
_COUNT = 3000
_RIDGE = 1.0


class TextSettings(BaseModel):
    """How the text encoders are built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: tuple[int, int] = (96, 128)
    layers: int = Field(3, ge=2, description="SDXL reads the last but one")
    head_dim: int = Field(32, ge=8)
    steps: int = Field(1200, ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(2e-3, gt=0)
    muon_lr: float = Field(0.02, gt=0)
    seed: int = 13


def build_text_encoders(
    settings: TextSettings, tokenizer: CLIPTokenizer
) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two untrained CLIP text encoders; the second one also gives the pooled embedding."""

    def config(width: int, activation: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=settings.layers,
            num_attention_heads=width // settings.head_dim,
            max_position_embeddings=tokenizer.model_max_length,
            hidden_act=activation,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    first, second = settings.width
    return CLIPTextModel(config(first, "quick_gelu")), CLIPTextModelWithProjection(config(second, "gelu"))


def encode_tokens(first: nn.Module, second: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """As SDXL does: last but one hidden states of both, and the second's pooled embedding.

    Args:
        first: CLIPTextModel.
        second: CLIPTextModelWithProjection.
        ids: (N, L) int64 tokens.

    Returns:
        Prompt embeddings (N, L, W1 + W2) and pooled embeddings (N, W2).
    """
    one = first(ids, output_hidden_states=True)
    two = second(ids, output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds


def draw_captions(tokenizer: CLIPTokenizer, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Captions of people and scenes that nobody draws: tokens (N, L) int16 and the concepts named (N, C) bool."""
    generator = torch.Generator().manual_seed(seed)
    ids, labels = [], []
    for start in tqdm(range(0, count, _CHUNK), desc="captions", unit="chunk", disable=count <= _CHUNK):
        size = min(_CHUNK, count - start)
        people, scenes = sample_people(size, generator), sample_scenes(size, generator)
        sentences = caption(people, scenes, generator, trait_dropout=0.6, scene_dropout=0.15)
        ids.append(token_ids(tokenizer, sentences).short())
        labels.append(named(sentences))
    return torch.cat(ids), torch.cat(labels)


def _cached_captions(tokenizer: CLIPTokenizer, work: Path) -> tuple[Tensor, Tensor]:
    ids, labels = draw_captions(tokenizer, 16, _SEED)
    facts = tokenizer.backend_tokenizer.to_str().encode() + ids.numpy().tobytes() + labels.numpy().tobytes()

    def make() -> dict[str, Tensor]:
        ids, labels = draw_captions(tokenizer, _CAPTIONS, _SEED)
        return {"ids": ids, "labels": labels.byte()}

    read = cached(work, "text", facts + str(_CAPTIONS).encode(), make)
    return read["ids"], read["labels"].bool()


class ConceptHeads(nn.Module):
    """Linear readings of every concept, off the pooled embedding and off the mean hidden state of real tokens."""

    def __init__(self, width: tuple[int, int], count: int) -> None:
        super().__init__()
        self.pooled = nn.Linear(width[1], count)
        self.hidden = nn.Linear(sum(width), count)

    def forward(self, prompt: Tensor, pooled: Tensor, real: Tensor, labels: Tensor) -> Tensor:
        """The mean over captions of the summed binary cross entropies.

        Args:
            prompt: (N, L, W1 + W2).
            pooled: (N, W2).
            real: (N, L) bool, tokens that are not padding.
            labels: (N, C) bool.
        """
        weight = real[..., None].float()
        mean = (prompt * weight).sum(1) / weight.sum(1)  # (N, W1 + W2)
        truth = labels.float()
        both = [F.binary_cross_entropy_with_logits(head, truth) for head in (self.pooled(pooled), self.hidden(mean))]
        return torch.stack(both).sum() * labels.shape[1]


def train_text(
    settings: TextSettings | None, assets: Path, work: Path, data: tuple[Tensor, Tensor] | None = None
) -> dict[str, Any]:
    """Trains both text encoders on the concepts of captions and saves them into ``assets/base``.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models.
        work: where captions and checkpoints lie.
        data: tokens (N, L) and concepts (N, C) to train on; None for 60,000 captions of their own seed.

    Returns:
        Steps, seconds and settings.
    """
    settings = settings or TextSettings()
    tokenizer = build_tokenizer()
    ids, labels = data or _cached_captions(tokenizer, work)
    torch.manual_seed(settings.seed)
    first, second = build_text_encoders(settings, tokenizer)
    heads = ConceptHeads(settings.width, labels.shape[1])
    lengths = (ids != tokenizer.pad_token_id).sum(dim=1) + 1  # with the first end token

    def step(_: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(ids), (settings.batch_size,), generator=generator)
        longest = int(lengths[rows].max())  # causal attention makes cutting the common padding exact
        prompt, pooled = encode_tokens(first, second, ids[rows, :longest].long())
        real = torch.arange(longest) < lengths[rows, None]
        loss: Tensor = heads(prompt, pooled, real, labels[rows])
        return loss

    report = train(
        "text",
        {"text_encoder": first, "text_encoder_2": second, "heads": heads},
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        weight_decay=0.01,
        checkpoint=work / "checkpoints" / "text",
        seed=settings.seed,
    )
    for name, model in zip(FOLDERS, (first, second), strict=True):
        with whole_folder(assets / name) as folder:
            model.save_pretrained(folder)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}


def load_text_encoders(assets: Path) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """The base model's text encoders in float32.

    Raises:
        BadFile: if one is missing or not whole.
    """
    for name in FOLDERS:
        check_model_folder(assets / name)
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    first, second = (
        kind.from_pretrained(assets / name, dtype=torch.float32, local_files_only=True, use_safetensors=True)
        for kind, name in zip(kinds, FOLDERS, strict=True)
    )
    return first, second


@torch.no_grad()
def verify_text(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """How often a linear reading of the pooled embedding, fitted to one half of fresh captions, is right on the other.

    A concept counts as read where the fit's value is above a half; the figures are over the named ones and over all.
    """
    encoders = load_text_encoders(assets)
    ids, labels = draw_captions(build_tokenizer(), max(500, count or _COUNT) * 2, seed)
    pooled = torch.cat([encode_tokens(*encoders, part.long())[1] for part in ids.split(256)]).double()
    pooled = torch.cat([pooled, torch.ones(len(pooled), 1, dtype=torch.float64)], dim=1)  # (N, W2 + 1)
    half = len(pooled) // 2
    known, truth = pooled[:half], labels[:half].double()
    fit = torch.linalg.solve(known.T @ known + _RIDGE * torch.eye(known.shape[1]).double(), known.T @ truth)
    seen, right = pooled[half:] @ fit > 0.5, labels[half:]
    assert seen.shape[1] == len(concepts())
    return [
        Bar("text: named concepts read off the pooled embedding", math.nan, float(seen[right].double().mean())),
        Bar("text: right over all concepts", math.nan, float((seen == right).double().mean())),
    ]
