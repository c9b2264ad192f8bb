"""LoRA-DreamBooth (paper, 3.5) of many people at once: one step trains them all, each as if alone.

Every person starts from the same A and sees the same noise, timesteps and places in the list of pictures, step by step
(one shared start and seed make a corpus learnable: weights2weights). Losses, gradient clipping and AdamW are each
person's own, so that the company a LoRA is trained in changes it by rounding alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import DTYPES, FrozenBase, gradient_checkpointing
from difflora.corpus.draws import denoising_losses, gather
from difflora.corpus.latents import Encoded
from difflora.corpus.many import ManyLoras
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.start import initial_flat, read_start
from difflora.errors import BadParameter
from difflora.lora import LoraLayout

Compile: TypeAlias = bool | Literal["regional"]
"""Of a UNet: not at all, as a whole, or its repeated blocks."""


@dataclass(frozen=True)
class Trained:
    """LoRAs of P people.

    Attributes:
        flat: (P, D) float32 on the CPU, in the layout's order.
        losses: (steps, P) float32 on the CPU.
        failed: place of a person -> what went wrong; that row of ``flat`` is of no use.
    """

    flat: Tensor
    losses: Tensor
    failed: dict[int, str]

    @property
    def final_loss(self) -> Tensor:
        """Mean over the last quarter of the steps, (P,)."""
        return self.losses[-max(1, len(self.losses) // 4) :].mean(0)


class Trainer:
    """Trains batches of people on one base; as a context, so that hooks and compiled code serve all batches.

    with Trainer(base, layout, settings) as trainer:
        trained = trainer.train(people)

    Args:
        base: the frozen base model, in ``settings.precision``.
        layout: of the LoRAs, for this base and ``settings.rank``.
        settings: how to train.
        compile: whether the UNet is compiled: a quarter off each step, a minute or so before the first, and again
            for each new number of people. ``regional`` compiles its repeated blocks alone, each kind once: minutes
            less for a UNet of SDXL's size. The results differ by rounding.

    Raises:
        BadParameter: if the base is in another precision, or there is no compiler.
        BadFile: if the settings' start is no LoRA of this layout and base.
        DiffLoRAError: if the base is under LoRAs already, or is not the layout's.
    """

    def __init__(
        self, base: FrozenBase, layout: LoraLayout, settings: DreamBoothSettings, *, compile: Compile = False
    ) -> None:
        dtype = next(base.unet.parameters()).dtype
        if dtype != DTYPES[settings.precision]:
            raise BadParameter(
                f"precision is {settings.precision}, but the base model is in {dtype}: load it in the former"
            )
        if compile and base.device.type == "cpu" and not any(map(shutil.which, _compilers())):
            raise BadParameter("compile: no C++ compiler was found; install g++ or clang++, or leave it out")
        self._base, self._layout, self._settings = base, layout, settings
        self._unet: Any = torch.compile(base.unet) if compile is True else base.unet
        self._regional = compile == "regional"
        self._shared: Tensor | None = None  # (D,) where all start
        if settings.start is not None:
            self._shared = read_start(settings.start, layout, base.name, settings.scale)
        elif settings.shared_start:
            self._shared = initial_flat(layout, settings.seed)
        self._loras = ManyLoras(base.unet, layout, settings.scale)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self._loras)
            opened.enter_context(_fast_attention(self._base))
            opened.enter_context(gradient_checkpointing(self._base, self._settings.gradient_checkpointing))
            opened.enter_context(_compiled_blocks(self._base, self._regional))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def train(self, people: Sequence[Encoded], *, progress: bool = False) -> Trained:
        """Trains a LoRA for each of P people in one pass.

        Args:
            people: P people of pictures of one size, each with any number of them, and with their class's where prior
                preservation is on.
            progress: whether to show a bar over the steps.

        Returns:
            The LoRAs. A person whose loss or weights become non-finite is named in ``failed`` and harms no other.

        Raises:
            BadParameter: if there is nobody, the pictures differ in size, or those of a class are missing.
        """
        if not people:
            raise BadParameter("nobody to train: give at least one person")
        start = self._start(people).to(self._base.device)  # (P, D)
        places = self._layout.factor_places[1].to(start.device) if self._settings.freeze_a else None

        def lay(numbers: Tensor) -> Tensor:
            return numbers if places is None else start.index_copy(1, places, numbers)

        moving = (start if places is None else start[:, places]).requires_grad_()  # (P, D), or (P, numbers of B)
        generator = torch.Generator().manual_seed(self._settings.seed)
        losses = self.descend(people, moving, lay, generator, progress=progress)
        return _result(lay(moving).detach(), losses, people)

    def descend(
        self,
        people: Sequence[Encoded],
        moving: Tensor,
        lay: Callable[[Tensor], Tensor],
        generator: torch.Generator,
        *,
        beside: Sequence[torch.optim.Optimizer] = (),
        progress: bool = False,
    ) -> Tensor:
        """Trains numbers of P people, in place, by as many steps as the settings say.

        Args:
            people: P people, see ``train``.
            moving: (P, N) leaf, what is each person's own; its gradients are clipped for each person.
            lay: (P, N) -> the flat LoRAs (P, D) that the base runs under.
            generator: of pictures, timesteps and noise.
            beside: optimisers of what else ``lay`` depends on; they step with each step.
            progress: whether to show a bar over the steps.

        Returns:
            (steps, P) losses on the base's device.
        """
        base, settings = self._base, self._settings
        data = gather(base, people, settings)
        optimizer = torch.optim.AdamW(
            [moving],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=base.device.type in ("cpu", "cuda"),
        )
        losses = torch.empty(settings.steps, len(people), device=base.device)
        for step in tqdm(range(settings.steps), disable=not progress, unit="step", leave=False):
            optimizer.param_groups[0]["lr"] = settings.lr_at(step)
            self._loras.set(lay(moving))
            loss = denoising_losses(base, self._unet, data, settings, generator)  # (P,)
            loss.sum().backward()
            _clip(moving, settings.max_grad_norm)
            for one in (optimizer, *beside):
                one.step()
                one.zero_grad()
            losses[step] = loss.detach()
        return losses

    def _start(self, people: Sequence[Encoded]) -> Tensor:
        """Where P people start, (P, D): all at one place, or each at a place of the person's own."""
        if self._shared is not None:
            return self._shared.repeat(len(people), 1)
        seed = self._settings.seed
        seeds = (hashlib.sha256(f"{seed} {person.identity}".encode()).digest() for person in people)
        return torch.stack([initial_flat(self._layout, int.from_bytes(one[:7], "big")) for one in seeds])


def train_people(
    base: FrozenBase,
    layout: LoraLayout,
    people: Sequence[Encoded],
    settings: DreamBoothSettings,
    *,
    progress: bool = False,
) -> Trained:
    """One batch through a ``Trainer`` of its own."""
    with Trainer(base, layout, settings) as trainer:
        return trainer.train(people, progress=progress)


def _compilers() -> list[str]:
    return [name for name in (os.environ.get("CXX"), "g++", "clang++", "c++") if name]


def _clip(rows: Tensor, most: float) -> None:
    """Shortens each person's own gradient (P, N) to the length ``most``, as ``clip_grad_norm_`` does for one."""
    assert rows.grad is not None
    length = torch.linalg.vector_norm(rows.grad, dim=1, keepdim=True)  # (P, 1)
    rows.grad.mul_((most / (length + 1e-6)).clamp(max=1.0))


@contextmanager
def _fast_attention(base: FrozenBase) -> Iterator[None]:
    """Attention by plain products for bfloat16 on the CPU, where torch's fused backward is several times slower."""
    unet: Any = base.unet
    if base.device.type != "cpu" or next(unet.parameters()).dtype != torch.bfloat16:
        yield
        return
    before = unet.attn_processors
    unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        unet.set_attn_processor(before)


@contextmanager
def _compiled_blocks(base: FrozenBase, wanted: bool) -> Iterator[None]:
    """The UNet's repeated blocks compiled, one code for all blocks of a kind; as they were, afterwards."""
    unet: Any = base.unet
    if not wanted:
        yield
        return
    unet.compile_repeated_blocks(fullgraph=True, dynamic=False)
    try:
        yield
    finally:
        for block in unet.modules():
            block._compiled_call_impl = None  # torch has no public way back from Module.compile


def _result(flat: Tensor, losses: Tensor, people: Sequence[Encoded]) -> Trained:
    flat, losses = flat.float().cpu(), losses.cpu()
    failed = {}
    for place, person in enumerate(people):
        bad = (~losses[:, place].isfinite()).nonzero()
        if len(bad):
            failed[place] = f"{person.identity}: its loss became {losses[bad[0, 0], place]} at step {int(bad[0, 0])}"
        elif not flat[place].isfinite().all():
            failed[place] = f"{person.identity}: its weights are not finite after the last step"
    return Trained(flat, losses, failed)
