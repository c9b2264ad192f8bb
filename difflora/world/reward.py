"""The world's reward model, in ImageReward's place: preferences that the world itself knows, learnt from pairs.

A small network gives a score to CLIP's features of a picture and of its prompt; of two pictures for one prompt the
better one is to have the higher score (Bradley and Terry, 1952; ImageReward's loss). It knows this world's preferences,
which are those of ``difflora.world.preferences``, and nobody's taste.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.errors import BadFile, BadParameter
from difflora.files import load_safetensors, save_safetensors, sha256_file
from difflora.folders import check_model_folder, whole_folder
from difflora.world.bars import Bar
from difflora.world.clip import FOLDER as CLIP
from difflora.world.clip import load_clip, normalise
from difflora.world.loop import train
from difflora.world.preferences import KINDS, draw_preferences
from difflora.world.render import SIZE
from difflora.world.tokenizer import token_ids

FOLDER = "evaluation/reward"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_GOAL = 0.90
_COUNT = 1500
_BATCH = 128


class RewardSettings(BaseModel):
    """How the reward model is built and trained: about two minutes on one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int = Field(4000, ge=8, description="preferences that are drawn and encoded, once")
    hidden: int = Field(256, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    steps: int = Field(1500, ge=1)
    batch_size: int = Field(256, ge=2)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    seed: int = 61


class PreferenceModel(ModelMixin, ConfigMixin):
    """Scores CLIP's features of a picture and of its prompt.

    Args:
        image_size: length of a picture's features: CLIP's embedding and the mean of its patches.
        text_size: length of a prompt's features: CLIP's embedding.
        hidden: width of the two hidden layers.
        dropout: in training.
        clip: sha256 of the CLIP weights whose features it learnt from.
    """

    mean: Tensor
    deviation: Tensor

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, image_size: int, text_size: int, hidden: int = 256, dropout: float = 0.1, clip: str = ""
    ) -> None:
        super().__init__()
        self.image_norm, self.text_norm = nn.LayerNorm(image_size), nn.LayerNorm(text_size)
        self.layers = nn.Sequential(
            nn.Linear(image_size + 2 * text_size, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Scores (N,) of pictures (N, I), whose first T numbers are CLIP's embedding, and prompts (N, T)."""
        picture, words = self.image_norm(image), self.text_norm(text)
        both = picture[:, : words.shape[1]] * words  # (N, T) where picture and prompt agree
        scores: Tensor = self.layers(torch.cat([picture, words, both], dim=1))[:, 0]
        return (scores - self.mean) / self.deviation


def preference_loss(better: Tensor, worse: Tensor) -> Tensor:
    """``-log sigmoid(better - worse)``, the mean over pairs; (N,) scores each."""
    return F.softplus(worse - better).mean()


class ClipFeatures:
    """What the reward model sees of pictures and prompts.

    Args:
        folder: of the world's CLIP.

    Raises:
        BadFile: if it is not whole.
    """

    def __init__(self, folder: Path) -> None:
        self._model, processor = load_clip(folder)
        self._model.requires_grad_(False)
        self._tokenizer = processor.tokenizer
        self.digest = sha256_file(folder / "model.safetensors")

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """CLIP's unit embedding and the mean of its patches, (N, D + W), of (N, 3, 64, 64) float32 in [0, 1]."""
        parts = []
        for chunk in images.split(_BATCH):
            seen = self._model.vision_model(pixel_values=normalise(chunk))
            embedding = F.normalize(self._model.visual_projection(seen.pooler_output), dim=-1)  # (B, D)
            parts.append(torch.cat([embedding, seen.last_hidden_state[:, 1:].mean(1)], dim=1))
        return torch.cat(parts)

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """CLIP's unit embeddings of prompts, (N, D); each sentence is read once."""
        unique = list(dict.fromkeys(prompts))
        parts = []
        for start in range(0, len(unique), _BATCH):
            ids = token_ids(self._tokenizer, unique[start : start + _BATCH])
            pooled = self._model.text_model(input_ids=ids).pooler_output
            parts.append(F.normalize(self._model.text_projection(pooled), dim=-1))
        places = {sentence: place for place, sentence in enumerate(unique)}
        return torch.cat(parts)[[places[prompt] for prompt in prompts]]


class WorldReward:
    """The world's reward model, with ImageReward's interface; its scores have mean 0 and deviation 1 on its own pairs.

    Args:
        assets: folder of the world's models.

    Raises:
        BadFile: if it or its CLIP is missing or damaged, or CLIP is not the one that it learnt from.
    """

    def __init__(self, assets: str | Path) -> None:
        self._features = ClipFeatures(Path(assets) / CLIP)
        self._model = load_reward(Path(assets) / FOLDER, self._features.digest)

    @torch.no_grad()
    def reward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """How well each picture would be liked for its prompt, (N,) float32.

        Args:
            images: (N, 3, 64, 64) float in [0, 1].
            prompts: N sentences in the captions' words.

        Raises:
            BadParameter: if their numbers differ, or pictures have another size.
        """
        if images.shape[1:] != (3, SIZE, SIZE) or len(images) != len(prompts):
            raise BadParameter(
                f"pictures {tuple(images.shape)} and {len(prompts)} prompts: give (N, 3, {SIZE}, {SIZE}) and N of them"
            )
        if not prompts:
            return torch.empty(0)
        scores: Tensor = self._model(self._features.images(images.float().cpu()), self._features.text(prompts))
        return scores


def load_reward(folder: Path, clip: str) -> PreferenceModel:
    """Loads the reward model.

    Args:
        folder: its folder.
        clip: sha256 of the CLIP weights that its features come from.

    Raises:
        BadFile: if the folder is not whole or holds something else, or it learnt from another CLIP.
    """
    config = check_model_folder(folder, _WEIGHTS)
    if config.get("_class_name") != PreferenceModel.__name__:
        raise BadFile(f"{folder}/config.json: describes {config.get('_class_name')!r}, not PreferenceModel")
    if config.get("clip") != clip:
        raise BadFile(f"{folder}: learnt from another CLIP than is there now; `difflora world train reward` anew")
    model: PreferenceModel = PreferenceModel.from_pretrained(folder, local_files_only=True)
    model.eval().requires_grad_(False)
    return model


def _encoded(settings: RewardSettings, features: ClipFeatures, work: Path) -> dict[str, Tensor]:
    """CLIP's features of drawn preferences: ``better`` and ``worse`` (N, I), ``text`` (N, T); made once, then read."""
    sample = draw_preferences(12, settings.seed)
    facts = hashlib.sha256(f"{settings.pairs} {settings.seed} {features.digest} {sample.prompts}".encode())
    facts.update(sample.better.numpy().tobytes() + sample.worse.numpy().tobytes())
    path = work / f"reward-{facts.hexdigest()[:12]}.safetensors"
    if not path.exists():
        drawn = draw_preferences(settings.pairs, settings.seed, progress="preferences")
        save_safetensors(
            path,
            {
                "better": features.images(drawn.better.float() / 255),
                "worse": features.images(drawn.worse.float() / 255),
                "text": features.text(drawn.prompts),
            },
        )
    return load_safetensors(path)


def train_reward(settings: RewardSettings | None, assets: Path, work: Path) -> dict[str, Any]:
    """Trains on preferences and exports to ``assets``; the world's CLIP must be there.

    Args:
        settings: None for the defaults.
        assets: the assets' folder; the model goes to ``evaluation/reward`` in it.
        work: folder of features and checkpoints.

    Raises:
        BadFile: if there is no CLIP.
    """
    settings = settings or RewardSettings()
    features = ClipFeatures(assets / CLIP)
    data = _encoded(settings, features, work)
    better, worse, text = data["better"], data["worse"], data["text"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = PreferenceModel(
            better.shape[1], text.shape[1], settings.hidden, settings.dropout, features.digest
        ).train()

        def step(i: int, generator: torch.Generator) -> Tensor:
            torch.manual_seed(settings.seed * 1_000_003 + i)  # of dropout, which knows no generator
            rows = torch.randint(0, len(text), (settings.batch_size,), generator=generator)
            scores = model(better[rows], text[rows])
            # A third picture costs nothing: the render of another prompt, another one each time.
            others = (rows + torch.randint(1, len(text), rows.shape, generator=generator)) % len(text)
            wrong = model(better[others], text[rows])
            return (2 * preference_loss(scores, model(worse[rows], text[rows])) + preference_loss(scores, wrong)) / 3

        report = train(
            "reward",
            {"model": model},
            step,
            steps=settings.steps,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            checkpoint=work / "checkpoints" / "reward",
        )
    model.eval()
    with torch.no_grad():
        scores = torch.cat([model(better, text), model(worse, text)])
        model.mean.copy_(model.mean + scores.mean() * model.deviation)
        model.deviation.mul_(scores.std().clamp(min=1e-6))
    with whole_folder(assets / FOLDER) as folder:
        model.half().save_pretrained(folder)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}


def verify_reward(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """The share of fresh preferences whose better picture has the higher score, over all and of each kind."""
    model, drawn = WorldReward(assets), draw_preferences(count or _COUNT, seed)
    better, worse = (model.reward(part.float() / 255, drawn.prompts) for part in (drawn.better, drawn.worse))
    right = (better > worse).float()
    return [
        Bar("reward: fresh preferences ranked right", _GOAL, float(right.mean())),
        *(
            Bar(f"reward: ranked right, {name}", math.nan, float(right[drawn.kind == place].mean()))
            for place, name in enumerate(KINDS)
        ),
    ]
