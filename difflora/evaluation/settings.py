"""Section ``evaluate`` of ``params.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from difflora.evaluation.figures.settings import FigureSettings
from difflora.evaluation.metric_settings import MetricSettings
from difflora.evaluation.protocols import read_protocol
from difflora.evaluation.textual_inversion import TextualInversionSettings
from difflora.inference.painter import PictureSettings
from difflora.models.noise import Sampler
from difflora.prompts import check_prompts
from difflora.training.ridge import DEFAULT_STRENGTH

Method = Literal["other", "retrieval", "ridge", "mlp", "textual_inversion", "reconstruction", "generated", "teacher"]
PICTURE_METHODS: tuple[Method, ...] = ("textual_inversion",)
"""Methods that give pictures and no LoRA, so that no strength applies to them."""
LORA_METHODS: tuple[Method, ...] = tuple(one for one in get_args(Method) if one not in PICTURE_METHODS)
"""Methods that give a LoRA."""


class RegressionSettings(BaseModel):
    """The regressions that a hypernetwork must beat: from a reference's features to principal components of LoRAs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: int = Field(2048, ge=2, description="training people at most that they learn from, the first ones")
    components: int = Field(128, ge=1, description="principal components at most")
    ridge: float | None = Field(
        DEFAULT_STRENGTH, gt=0, description="penalty of the ridge regression, as dit.ridge; null for the least error"
    )
    hidden: tuple[int, ...] = Field((512,), min_length=1, description="hidden widths of the MLP")
    mlp_epochs: int = Field(60, ge=1, description="most epochs of the MLP; it stops early on people left out")


class StoredPictures(BaseModel):
    """Pictures kept in ``reports/pictures``, for the user study and the report's grids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: int = Field(16, ge=0, description="the first people, none chosen; the user study takes its own from these")
    prompts: int = Field(6, ge=1, description="of the prompts, the first ones")
    side: int = Field(512, ge=16, description="most pixels a side; larger pictures are made smaller")
    extremes: int = Field(
        4, ge=0, description="people in the report's grid of successes, and in that of failures; kept beside the first"
    )


class EvaluateSettings(BaseModel):
    """Methods compared on held-out people, on the same prompts and noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str | None = Field(
        None,
        description="name of a protocol that gives people, prompts and images_per_prompt where they are not given "
        "here: paper (4.3)",
    )
    methods: tuple[Method, ...] = Field(
        LORA_METHODS,
        min_length=1,
        description="what is compared, beside base and real; textual_inversion, a training of its own for each person, "
        "only where it is named",
    )
    people: int = Field(32, ge=2, description="people of the split test, the first ones")
    references: int = Field(1, ge=1, description="pictures of a person that methods see; their features are averaged")
    compared: int | None = Field(
        None, ge=1, description="other pictures to compare with, the last ones; None for all that methods do not see"
    )
    validation_people: int = Field(12, ge=1, description="people of the split validation, to choose strengths on")
    prompts: tuple[str, ...] = Field(min_length=1, description="what is drawn; {person} becomes 'a man' or 'a woman'")
    images_per_prompt: int = Field(1, ge=1, description="pictures of each person and prompt, each of its own noise")
    validation_prompts: int = Field(3, ge=1, description="of the prompts, the first ones, to choose strengths with")
    strengths: tuple[float, ...] = Field(
        (1.0, 1.25, 1.5, 2.0), min_length=1, description="S of mean + S (V - mean) that are tried on validation people"
    )
    agreement_margin: float = Field(
        0.05, ge=0, description="how far prompt agreement may fall below the base model's for a strength to be chosen"
    )
    num_inference_steps: int = Field(100, ge=1, description="of the sampler of LoRAs")
    sampler: Sampler = Field("ddim", description="of LoRAs")
    guidance_scale: float = Field(1.0, ge=0, description="of the sampler of LoRAs; 1 for none")
    pictures: PictureSettings = PictureSettings()
    independent: Path | None = Field(None, description="ONNX file of a face recogniser that nothing else uses")
    agreement: str | None = Field(None, description="module:Class that scores pictures by their prompts")
    agreement_options: dict[str, Any] = {}
    metrics: MetricSettings = MetricSettings()
    regression: RegressionSettings = RegressionSettings()
    textual_inversion: TextualInversionSettings = TextualInversionSettings()
    sheet_people: int = Field(8, ge=0, description="people in the picture grid")
    store_pictures: StoredPictures = StoredPictures()
    figures: FigureSettings = FigureSettings()
    seed: int = Field(0, ge=0, lt=2**31, description="of the pictures' noise and of sampling")

    @property
    def lora_methods(self) -> list[Method]:
        """Those of the methods that give a LoRA, in their order."""
        return [method for method in self.methods if method in LORA_METHODS]

    @property
    def pictures_drawn(self) -> int:
        """Pictures of all rows at most: base once, methods at strength 1 and at another one, and what chooses that."""
        test, loras = self.people * len(self.prompts) * self.images_per_prompt, len(self.lora_methods)
        once = 1 + len(self.methods)
        if len(self.strengths) == 1:
            return test * once
        few = min(self.validation_prompts, len(self.prompts))
        tried = loras * len(self.strengths) + (self.agreement is not None)
        return test * (once + loras) + self.validation_people * few * tried

    @model_validator(mode="before")
    @classmethod
    def _of_protocol(cls, values: Any) -> Any:
        """What a protocol says stands where nothing else is said."""
        if not isinstance(values, Mapping) or not isinstance(values.get("protocol"), str):
            return values
        return {**read_protocol(values["protocol"]), **values}

    @model_validator(mode="after")
    def _fits(self) -> EvaluateSettings:
        if not self.lora_methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods are {self.methods}: give each once, and one that gives a LoRA among them")
        check_prompts(self.prompts)
        if 1.0 not in self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"strengths are {self.strengths}: give 1.0 and others above 0")
        return self
