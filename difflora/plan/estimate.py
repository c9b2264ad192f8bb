"""Hours, memory and disk of each step, from what was counted and what is assumed."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from difflora.corpus.base import DTYPES
from difflora.evaluation.rivals import BLOCK_BYTES
from difflora.plan.assumptions import Assumptions
from difflora.plan.cost import Cost
from difflora.plan.counted import Counted
from difflora.plan.quantities import Quantities
from difflora.stages.params import Params
from difflora.training import LoopSettings
from difflora.training.drawn_settings import DrawnSettings

_FP32, _ROW_BYTES = 4, {"fp16": 2, "fp32": 4}
_STATE = 4 * _FP32
"""Bytes of a trained parameter: weight, gradient and AdamW's two moments."""


class StageCost(BaseModel):
    """What a step takes.

    Attributes:
        name: the step's.
        hours: on one device.
        petaflops: operations / 1e15.
        terabytes: that they move, with no operation fused.
        bound: what the time is of: ``compute``, ``memory`` or, where next to nothing is computed, ``none``.
        memory_gib: of the device.
        host_gib: of main memory, where it grows with people and pictures.
        disk_gb: of the step's outputs, each copy counted.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    hours: float
    petaflops: float
    terabytes: float
    bound: str
    memory_gib: float
    host_gib: float
    disk_gb: float


def estimate(
    params: Params, counted: Counted, much: Quantities, assumed: Assumptions, weights_gb: float
) -> list[StageCost]:
    """Every step in order.

    InsightFace's and CLIP's passes are left out: a few in ten thousand of picture making.

    Args:
        params: all parameters.
        counted: their models.
        much: how much there is of everything.
        assumed: about machine and storage.
        weights_gb: of the weights that the user brings.
    """
    return [
        _identities(params, counted, much, assumed),
        _corpus(params, counted, much, assumed),
        _lae(params, counted, much, assumed),
        _dit(params, counted, much, assumed),
        _evaluate(params, counted, much, assumed),
        _register(params, counted, assumed, weights_gb),
    ]


def _identities(params: Params, counted: Counted, much: Quantities, assumed: Assumptions) -> StageCost:
    made = much.people * much.candidates * much.drawn
    work = [counted.unet.times(made * much.image_steps * much.image_passes), counted.vae_decode.times(made)]
    stored = much.people * (much.pictures + much.references) * 3 * counted.base.side**2
    batch = max(much.image_passes * counted.unet.largest, counted.vae_decode.largest) * much.image_batch
    memory = _frozen(params, counted) + 2 * batch
    return _stage("identities", work, assumed, memory=memory * much.drawn, disk=stored)


def _corpus(params: Params, counted: Counted, much: Quantities, assumed: Assumptions) -> StageCost:
    chosen, at_once = params.corpus, params.corpus.people_at_once
    batch = at_once * int(much.lora_batch)
    step, kept = _through(counted, assumed, chosen.dreambooth.gradient_checkpointing)
    work = [
        counted.vae_encode.times(much.loras * much.pictures),
        step.times(much.loras * much.lora_steps / at_once, batch),
    ]
    memory = _frozen(params, counted) + batch * kept
    memory += at_once * counted.layout.size * _STATE
    stored = much.loras * counted.layout.size * _ROW_BYTES[chosen.dtype]
    return _stage("corpus", work, assumed, memory=memory, disk=stored)


def _lae(params: Params, counted: Counted, much: Quantities, assumed: Assumptions) -> StageCost:
    loop, size = params.lae.loop, counted.lae_parameters
    work = [counted.lae_train.times(much.lae_steps, loop.batch_size)]
    memory = _trained(size, loop) + counted.lae_train.times(1, loop.batch_size).saved
    return _stage("lae", work, assumed, memory=memory, disk=size * _FP32)


def _dit(params: Params, counted: Counted, much: Quantities, assumed: Assumptions) -> StageCost:
    loop, effect = params.dit.loop, params.dit.effect
    size = counted.dit_parameters
    work = [counted.dit_train.times(much.dit_steps * (1 + much.refine_rounds), loop.batch_size)]
    latents = much.train_loras * counted.lae.latent_size * _FP32
    memory = _trained(size, loop) + counted.dit_train.times(1, loop.batch_size).saved + latents
    if much.effect_steps:
        people, pictures = effect.loop.batch_size, effect.loop.batch_size * effect.images_per_step
        through, kept = _through(counted, assumed, effect.gradient_checkpointing)
        work += [
            through.times(much.effect_steps, pictures),
            counted.dit.times(much.effect_steps * (effect.rollout_steps - 1) / 2, people),
            counted.dit_train.times(much.effect_steps, people),
            counted.lae_train.times(much.effect_steps, people),  # of which only the decoder's part is done
        ]
        both = _trained(size + counted.lae_parameters, effect.loop) + _frozen(params, counted)
        both += pictures * kept + people * (counted.dit_train.saved + counted.lae_train.saved)
        if effect.likeness.weight:
            drawn, alike = _drawn(effect.likeness, counted, much.effect_steps, people, through, kept)
            both, work = both + drawn, work + alike
        memory = max(memory, both)
    if much.refine_moves:
        drawn, alike = _refine(params, counted, much, assumed)
        memory, work = max(memory, _frozen(params, counted) + drawn), work + alike
    stored = (size + counted.lae_parameters) * _FP32
    return _stage("dit", work, assumed, memory=memory, disk=stored)


def _refine(params: Params, counted: Counted, much: Quantities, assumed: Assumptions) -> tuple[float, list[Cost]]:
    """Bytes that a move of ``dit.refine`` keeps, and the work of all."""
    chosen = params.dit.refine
    people = chosen.people_at_once
    through, kept = _through(counted, assumed, chosen.gradient_checkpointing)
    drawn, work = _drawn(chosen, counted, much.refine_moves, people, through, kept)
    decoded = counted.lae_train.times(much.refine_moves, people)  # of which only the decoder's part is done
    return drawn + people * counted.lae_train.saved, [*work, decoded]


def _drawn(
    chosen: DrawnSettings, counted: Counted, steps: float, people: int, through: Cost, kept: float
) -> tuple[float, list[Cost]]:
    """Bytes that a step on drawn faces keeps, and the work of all; the recogniser's is small beside it.

    Args:
        chosen: how pictures are drawn.
        counted: the models.
        steps: how many.
        people: in each.
        through: a pass of the base forwards and backwards.
        kept: bytes of activations that it keeps.
    """
    pictures = people * chosen.pictures
    work = [
        counted.unet.times(steps * (chosen.steps - chosen.through), pictures),
        through.times(steps * chosen.through, pictures),
        counted.vae_decode_train.times(steps, pictures),
    ]
    return pictures * (chosen.through * kept + counted.vae_decode_train.saved), work


def _evaluate(params: Params, counted: Counted, much: Quantities, assumed: Assumptions) -> StageCost:
    drawing = params.evaluate.pictures
    passes = 2 if drawing.guidance_scale > 1 else 1
    work = [counted.unet.times(much.evaluated * drawing.steps * passes), counted.vae_decode.times(much.evaluated)]
    batch = drawing.batch_size * max(counted.unet.largest * passes, counted.vae_decode.largest)
    memory = 2 * batch + (counted.dit_parameters + counted.lae_parameters) * _FP32
    if much.inversion_steps:
        words = params.evaluate.textual_inversion
        together = words.people_at_once * words.batch_size
        work.append(counted.unet_train.times(much.inversion_steps / words.people_at_once, together))
        memory = max(memory, counted.unet_train.times(1, together).saved)
    memory += _frozen(params, counted)
    return _stage("evaluate", work, assumed, memory=memory, host=_held(params, counted, much))


def _held(params: Params, counted: Counted, much: Quantities) -> float:
    """Bytes of main memory: LoRAs by blocks, every method's own, and one method's pictures."""
    chosen, row = params.evaluate, counted.layout.size * _FP32
    blocks = min(much.train_loras * row, 2 * BLOCK_BYTES)
    pictures = chosen.people * len(chosen.prompts) * chosen.images_per_prompt * 3 * counted.base.side**2
    return blocks + chosen.people * (1 + len(chosen.lora_methods)) * row + pictures


def _register(params: Params, counted: Counted, assumed: Assumptions, weights_gb: float) -> StageCost:
    stored = (counted.dit_parameters + counted.lae_parameters) * _FP32
    return _stage("register", [], assumed, disk=stored, kept=weights_gb * 1e9)


def _through(counted: Counted, assumed: Assumptions, checkpointing: bool) -> tuple[Cost, float]:
    """A pass of the UNet forwards and backwards, and the bytes of activations that it keeps."""
    if checkpointing:
        return counted.unet_train + counted.unet, counted.unet_train.saved * assumed.checkpointed
    return counted.unet_train, counted.unet_train.saved


def _frozen(params: Params, counted: Counted) -> float:
    """Bytes of the base on the device: the UNet in its precision, the rest in float32."""
    unet = counted.base.unet_parameters
    return unet * DTYPES[params.corpus.dreambooth.precision].itemsize + (counted.base.parameters - unet) * _FP32


def _trained(size: int, loop: LoopSettings) -> float:
    """Bytes of parameters that are trained: with optimiser and average."""
    return size * (_STATE + (_FP32 if loop.ema_decay is not None else 0))


def _stage(
    name: str,
    work: Sequence[Cost],
    assumed: Assumptions,
    *,
    memory: float = 0.0,
    host: float = 0.0,
    disk: float = 0.0,
    kept: float = 0.0,
) -> StageCost:
    """Rounds up what the parts add to; ``kept`` is stored once, and no output."""
    flops = sum(cost.flops for cost in work)
    moved = sum(cost.bytes + cost.weight_bytes for cost in work)
    seconds = sum(assumed.seconds(cost.flops, cost.bytes + cost.weight_bytes) for cost in work)
    heaviest = max(work, key=lambda cost: assumed.seconds(cost.flops, cost.bytes + cost.weight_bytes), default=Cost())
    computing = assumed.seconds(heaviest.flops, 0) >= assumed.seconds(0, heaviest.bytes + heaviest.weight_bytes)
    return StageCost(
        name=name,
        hours=seconds / 3600,
        petaflops=flops / 1e15,
        terabytes=moved / 1e12,
        bound=("compute" if computing else "memory") if seconds else "none",
        memory_gib=memory / 2**30,
        host_gib=host / 2**30,
        disk_gb=(disk * assumed.copies + kept) / 1e9,
    )
