"""``params.yaml``: every parameter of the chain, validated whole before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difflora.corpus.settings import DreamBoothSettings
from difflora.evaluation.settings import EvaluateSettings
from difflora.identities.build import IdentitySettings
from difflora.identities.screen_settings import ScreenSettings
from difflora.training import DitSettings, LaeSettings
from difflora.validation import read_yaml


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubParams(_Section):
    """Where ``difflora weights fetch`` takes a folder from; nothing else reads it, the chain itself works offline."""

    name: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME on the Hugging Face hub")
    revision: str | None = Field(
        None, pattern="^[0-9a-f]{40}$", description="commit; nothing is fetched without, since a branch may move"
    )


class BaseParams(_Section):
    """The base model."""

    folder: Path = Field(description="of a diffusers pipeline: Stable Diffusion 1.x or XL")
    file: Path | None = Field(
        None,
        description="single .safetensors checkpoint whose weights are taken; the folder then gives configurations, "
        "tokenizers and scheduler alone",
    )
    hub: HubParams | None = Field(None, description="where the folder can be fetched")
    name: str = Field(min_length=1, description="what it is called in LoRA files, never a path of one machine")
    trigger_prompt: str = Field("", description="what a prompt must contain for a LoRA to work; in every LoRA file")


class FacesParams(_Section):
    """InsightFace's pack, or a CLIP where subjects are whole pictures."""

    folder: Path = Field(description="that holds models/PACK; without a pack the folder of a CLIP")
    pack: str | None = Field(
        "buffalo_l", min_length=1, description="null where subjects are whole pictures, as styles are, and have no face"
    )
    det_size: int = Field(640, ge=32, multiple_of=32, description="side at which faces are sought")
    det_thresh: float = Field(0.5, gt=0, lt=1, description="least score of a face")


class ModelsParams(_Section):
    """What users bring."""

    base: BaseParams
    faces: FacesParams
    images: Path = Field(description="folder of a CLIP")
    images_hub: HubParams | None = Field(None, description="where that folder can be fetched")
    device: str = Field("cpu", description="cpu, cuda, cuda:1...")


class IdentitiesParams(_Section):
    """People and their pictures."""

    source: str = Field(description="module:Class that makes pictures of people")
    options: dict[str, Any] = {}
    count: int = Field(ge=1, description="people")
    skip_unusable: bool = Field(False, description="pass over a person with too few faces instead of stopping")
    pictures: IdentitySettings = IdentitySettings()
    screen: ScreenSettings = ScreenSettings()


class CorpusParams(_Section):
    """LoRAs of these people."""

    dreambooth: DreamBoothSettings = DreamBoothSettings()
    train_people: int | None = Field(
        None,
        ge=1,
        description="most of the split train who get a LoRA, whoever comes in later apart; dit.effect learns from all; "
        "None for all",
    )
    people_at_once: int = Field(16, ge=1)
    dtype: Literal["fp16", "fp32"] = "fp16"
    rows_per_shard: int = Field(64, ge=1)
    compile: bool | Literal["regional"] = Field(
        False, description="compile the UNet, or its repeated blocks alone: each kind once, far sooner ready"
    )


class RegisterParams(_Section):
    """The model's folder."""

    name: str = Field("difflora", min_length=1)
    include_encoders: bool = Field(True, description="copy the encoders' files into it; mind their licences")
    num_inference_steps: int = Field(100, ge=1, description="the model's default")
    guidance_scale: float = Field(1.0, ge=0, description="the model's default")
    registry: str | None = Field(
        "difflora-candidates",
        min_length=1,
        pattern=r"^[^/:]+$",
        description="registered model that it joins as a candidate, where runs are tracked; None for none",
    )


class Params(_Section):
    """Every section of ``params.yaml``."""

    models: ModelsParams
    identities: IdentitiesParams
    corpus: CorpusParams = CorpusParams()
    lae: LaeSettings = LaeSettings()
    dit: DitSettings = DitSettings()
    evaluate: EvaluateSettings
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    continue_from: Path | None = Field(
        None,
        description="folder of a trained pipeline that LAE and DiT go on from, beside this file; None to start anew",
    )

    @model_validator(mode="after")
    def _fits(self) -> Params:
        least = self.evaluate.references + (self.evaluate.compared or 1)
        if self.identities.pictures.references < least:
            raise ValueError(
                f"identities.pictures.references: give at least {least}, {self.evaluate.references} to show "
                "(evaluate.references) and others to compare with"
            )
        if self.dit.needs_faces and self.models.faces.pack is None:
            name = "refine.rounds" if self.dit.refine.rounds else "effect.likeness.weight"
            raise ValueError(f"dit.{name}: whole pictures have no faces to compare; set it to 0")
        most = self.dit.noise.num_train_timesteps
        for name, steps in (
            ("evaluate.num_inference_steps", self.evaluate.num_inference_steps),
            ("register.num_inference_steps", self.register_.num_inference_steps),
        ):
            if steps > most:
                raise ValueError(f"{name} is {steps}, but dit.noise has {most} timesteps")
        return self


def section_of(params: Params, stage: str) -> dict[str, Any]:
    """A stage's section as plain values."""
    values: dict[str, Any] = params.model_dump(mode="json", by_alias=True)[stage]
    return values


def load_params(path: str | Path = "params.yaml") -> Params:
    """Reads and validates a parameter file.

    Raises:
        BadFile: if it is missing or no YAML mapping.
        BadParameter: for a key or value that is not allowed; file and key are named.
    """
    return read_yaml(Params, Path(path), "run from the repository's root, or give --params")
