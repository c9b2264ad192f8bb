"""Learning the A that a corpus's LoRAs start from, over many people.

A person's B can use only what A lets through. Learnt in episodes, as meta-learning does (first-order MAML,
arXiv:1803.02999): in each a few people train B of their own from zero, as DreamBooth will, while A is one for all of
them, gets all their gradients and goes on to the next episode's people. LoRAs that start there get further in the same
steps, and, with A kept, differ in B alone and alike.
"""

# ruff: noqa: N803, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import Trainer
from difflora.corpus.header import settings_digest
from difflora.corpus.latents import Encoded, encode_first
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start import initial_flat
from difflora.errors import BadParameter, DiffLoRAError
from difflora.files import load_safetensors, save_safetensors
from difflora.lora import LoraLayout, LoraWeights
from difflora.lora.base_model import BaseModelId

logger = logging.getLogger(__name__)


class StartSettings(BaseModel):
    """How a start is learnt; an episode costs what as many people's LoRAs cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    episodes: int = Field(24, ge=1)
    people_at_once: int = Field(8, ge=1, description="people of an episode")
    lr: float = Field(4e-3, gt=0, description="AdamW's rate of A, falling linearly to nothing over the episodes")


@dataclass(frozen=True)
class LearntStart:
    """What the learning gave.

    Attributes:
        flat: (D,) float32, A as learnt and B zero.
        losses: of the last quarter of each episode's steps, the mean.
        seconds: of all episodes, those before a checkpoint too.
    """

    flat: Tensor
    losses: list[float]
    seconds: float


def save_start(path: Path, learnt: LearntStart, layout: LoraLayout, base: BaseModelId, scale: float) -> None:
    """Writes a start as a LoRA file, in float32; atomic."""
    told = {"learnt_in_episodes": str(len(learnt.losses))}
    LoraWeights(layout, learnt.flat, base, scale * layout.rank, provenance=told).save(path, torch.float32)


def of_folder(
    base: FrozenBase, people: PeopleFolder, settings: DreamBoothSettings, how: StartSettings
) -> Callable[[int], list[Encoded]]:
    """The people of each episode: those of the split train in turn, from the first again after the last.

    Raises:
        BadParameter: if the folder has fewer of them than an episode takes.
    """
    ids = [identity for identity in people.ids if people.line(identity)["split"] == "train"]
    if len(ids) < how.people_at_once:
        raise BadParameter(
            f"{people.folder}: has {len(ids)} people of the split train, an episode takes {how.people_at_once}; make "
            "more, or give fewer people at once"
        )

    def episode(number: int) -> list[Encoded]:
        places = range(number * how.people_at_once, (number + 1) * how.people_at_once)
        chosen = (people.person(ids[place % len(ids)]) for place in places)
        return [encode_first(base, person, settings.images, settings) for person in chosen]

    return episode


def learn_start(
    base: FrozenBase,
    layout: LoraLayout,
    people: Callable[[int], Sequence[Encoded]],
    settings: DreamBoothSettings,
    how: StartSettings,
    *,
    checkpoint: Path,
    progress: bool = True,
) -> LearntStart:
    """Learns A over episodes, from the checkpoint where there is one.

    Args:
        base: the frozen base model, in ``settings.precision``.
        layout: of the LoRAs.
        people: gives those of an episode, counted from 0; pictures of one size.
        settings: how each episode's LoRAs are trained.
        how: how many episodes, and how fast A learns.
        checkpoint: folder of a file that is written after each episode; a killed call goes on from there, one of
            other settings begins a file of its own.
        progress: whether to show a bar over the episodes.

    Raises:
        BadParameter: if an episode has nobody, or the base is in another precision.
        BadFile: if the checkpoint is damaged.
        DiffLoRAError: if a loss is not finite.
    """
    state = _State.begin(checkpoint, base, layout, settings, how)
    with (
        Trainer(base, layout, settings) as trainer,
        tqdm(total=how.episodes, initial=len(state.losses), desc="start", unit="episode", disable=not progress) as bar,
    ):
        for episode in range(len(state.losses), how.episodes):
            started = time.monotonic()
            state.optimizer.param_groups[0]["lr"] = how.lr * (1 - episode / how.episodes)
            chosen = people(episode)
            if not chosen:
                raise BadParameter(f"start: episode {episode} has nobody; give more people or fewer episodes")
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + episode)
            losses = _episode(trainer, layout, chosen, state, generator)  # (steps, P)
            loss = float(losses[-max(1, settings.steps // 4) :].mean())
            if not math.isfinite(loss):
                raise DiffLoRAError(f"start: the loss of episode {episode} is {loss}; give a lower lr than {how.lr}")
            state.losses.append(loss)
            state.seconds += time.monotonic() - started
            state.save()
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")
    flat = torch.zeros(layout.size)
    flat[layout.factor_places[0]] = state.lora_A.detach().cpu()
    return LearntStart(flat, state.losses, state.seconds)


def _episode(
    trainer: Trainer, layout: LoraLayout, people: Sequence[Encoded], state: _State, generator: torch.Generator
) -> Tensor:
    """Trains B of each of P people from zero, and the A of all; gives the losses (steps, P)."""
    of_A, of_B = (places.to(state.lora_A.device) for places in layout.factor_places)
    blank = state.lora_A.new_zeros(len(people), layout.size)

    def lay(lora_B: Tensor) -> Tensor:
        return blank.index_copy(1, of_A, state.lora_A.expand(len(people), -1)).index_copy(1, of_B, lora_B)  # (P, D)

    lora_B = blank.new_zeros(len(people), len(of_B)).requires_grad_()
    return trainer.descend(people, lora_B, lay, generator, beside=[state.optimizer])


class _State:
    """A, its optimiser and what was done, in memory and as a checkpoint.

    Args:
        path: the checkpoint, whether it is there or not.
        lora_A: where A starts.
        lr: its rate.
    """

    def __init__(self, path: Path, lora_A: Tensor, lr: float) -> None:
        self._path = path
        self.lora_A = lora_A.requires_grad_()
        self.optimizer = torch.optim.AdamW([self.lora_A], lr=lr, weight_decay=0.0)
        self.losses: list[float] = []
        self.seconds = 0.0
        if path.exists():
            self._load()
            logger.info("start: going on from episode %d", len(self.losses))

    @classmethod
    def begin(
        cls, folder: Path, base: FrozenBase, layout: LoraLayout, settings: DreamBoothSettings, how: StartSettings
    ) -> _State:
        """From the checkpoint of exactly this in the folder, or anew."""
        facts = [layout.to_json(), settings.deciding, how.model_dump(mode="json"), base.name.model_dump(), base.weights]
        start = initial_flat(layout, settings.seed)[layout.factor_places[0]]
        return cls(folder / f"start-{settings_digest(facts)[:12]}.safetensors", start.to(base.device), how.lr)

    def save(self) -> None:
        moments = self.optimizer.state[self.lora_A]
        tensors = {f"optimizer.{key}": torch.as_tensor(value) for key, value in moments.items()}
        tensors["lora_A"] = self.lora_A.detach()
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        save_safetensors(self._path, tensors)

    def _load(self) -> None:
        tensors = load_safetensors(self._path)
        with torch.no_grad():
            self.lora_A.copy_(tensors["lora_A"])
        self.losses, self.seconds = tensors["losses"].tolist(), float(tensors["seconds"])
        self.optimizer.state[self.lora_A] = {
            key: tensors[f"optimizer.{key}"].to("cpu" if key == "step" else self.lora_A.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
