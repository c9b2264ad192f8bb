"""How much of everything a parameter file asks for, as plain numbers that a plan can vary one by one."""

from __future__ import annotations

from dataclasses import dataclass

from difflora.stages.params import Params


@dataclass(frozen=True)
class Quantities:
    """Counts of people, pictures and steps.

    Attributes:
        people: made.
        candidates: pictures made of each.
        drawn: whether the base model makes them; rendered or collected ones cost no passes of it.
        image_steps: denoising steps of each.
        image_passes: passes of the UNet a step: 2 with guidance.
        image_batch: pictures at a time.
        loras: trained, expected from the splits' shares.
        train_loras: of the split train.
        pictures: of each person that LoRAs learn from.
        references: of each person beside these.
        lora_steps: of each LoRA.
        lora_batch: pictures a step of each person, with those of the class where prior preservation is on.
        lae_steps: of the autoencoder.
        dit_steps: of the transformer on latents.
        effect_steps: through the base model; 0 where that is off.
        refine_rounds: in each of which the transformer learns latents anew; 0 where that is off.
        refine_moves: of latents, some people at once, in all rounds.
        evaluated: pictures that the evaluation draws.
        inversion_steps: of textual inversion, of everyone who is evaluated; 0 where that is off.
    """

    people: int
    candidates: float
    drawn: bool
    image_steps: float
    image_passes: float
    image_batch: float
    loras: float
    train_loras: float
    pictures: float
    references: float
    lora_steps: float
    lora_batch: float
    lae_steps: float
    dit_steps: float
    effect_steps: float
    refine_rounds: float
    refine_moves: float
    evaluated: float
    inversion_steps: float


def quantities(params: Params, people: int | None = None) -> Quantities:
    """What a parameter file asks for.

    Args:
        params: all parameters.
        people: in the place of ``identities.count``.
    """
    made = params.identities.count if people is None else people
    chosen, lora, splits = params.identities.pictures, params.corpus.dreambooth, params.identities.pictures.splits
    held_out = made * (splits.validation + splits.test)
    train = min(made - held_out, params.corpus.train_people or made)
    kept = (chosen.keep - chosen.references) * chosen.augment.copies
    effect, refine = params.dit.effect, params.dit.refine
    return Quantities(
        made,
        chosen.candidates,
        draws(params),
        *_drawing(params),
        train + held_out,
        train,
        min(kept, lora.images or kept),
        chosen.references,
        lora.steps,
        lora.batch_size * (1 if lora.prior_preservation is None else 2),
        params.lae.loop.steps,
        params.dit.loop.steps,
        effect.loop.steps if effect.enabled else 0,
        refine.rounds,
        refine.rounds * refine.moves * (made - held_out) / refine.people_at_once,
        params.evaluate.pictures_drawn,
        _inversion_steps(params),
    )


def draws(params: Params) -> bool:
    """Whether the people's pictures are made by the base model: PhotoMaker's are."""
    return "photomaker" in params.identities.source.lower()


def _drawing(params: Params) -> tuple[float, float, float]:
    """Steps, passes and batch of candidate pictures, by the source's options ``drawing``; else PhotoMaker's."""
    drawing = params.identities.options.get("drawing")
    drawing = drawing if isinstance(drawing, dict) else {}
    passes = 2.0 if float(drawing.get("guidance_scale", 5.0)) > 1 else 1.0
    return float(drawing.get("steps", 50)), passes, float(drawing.get("batch_size", 4))


def _inversion_steps(params: Params) -> int:
    chosen = params.evaluate
    return chosen.people * chosen.textual_inversion.steps if "textual_inversion" in chosen.methods else 0
