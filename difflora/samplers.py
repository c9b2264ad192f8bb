"""The samplers that settings name, each made from the noise levels that a base model was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler

PictureSampler: TypeAlias = Literal["own", "euler", "ddim", "dpm++", "lcm"]
"""The base model's own; Euler; DDIM; DPM-Solver++; a latent consistency model's, for 4 to 8 steps."""

_KINDS: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),  # latents are not bounded as pixels are
    "dpm++": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"},
    ),
    "lcm": (LCMScheduler, {"clip_sample": False}),
}


def make_scheduler(sampler: PictureSampler, own: Any) -> Any:
    """A diffusers scheduler.

    Args:
        sampler: which one.
        own: the base model's scheduler, given back for ``own`` and the source of noise levels and prediction type else.
    """
    if sampler == "own":
        return own
    kind, more = _KINDS[sampler]
    return kind.from_config(own.config, **more)
