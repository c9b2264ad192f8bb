"""Section ``evaluate.figures`` of ``params.yaml``: how much is measured for the figures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AutoencoderFigureSettings(BaseModel):
    """The small autoencoders of Fig. 2: all alike, but for the rank of the pictures that they learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranks: tuple[int, ...] = Field((2, 4, 8), min_length=1, description="of the pictures, beside the full one")
    size: int = Field(32, ge=16, le=256, description="pixels a side that pictures are brought to")
    pictures: int = Field(1024, ge=2, description="most pictures to learn from, as many of each training person")
    people: int = Field(32, ge=2, description="most held-out people to measure on")
    channels: tuple[int, ...] = Field((16, 32, 64), min_length=1, description="of the levels; each halves the sides")
    latent_channels: int = Field(4, ge=1)
    steps: int = Field(300, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(3e-3, gt=0, description="Adam's rate, which falls to nothing by a cosine")

    @model_validator(mode="after")
    def _fits(self) -> AutoencoderFigureSettings:
        factor = 2 ** len(self.channels)
        if self.size % factor:
            raise ValueError(f"size is {self.size}: {len(self.channels)} levels need a multiple of {factor}")
        if not all(1 <= rank < self.size for rank in self.ranks) or len(set(self.ranks)) < len(self.ranks):
            raise ValueError(f"ranks are {self.ranks}: give different ones from 1 to below size, {self.size}")
        return self


class FigureSettings(BaseModel):
    """Counts of what is drawn and measured; where there are fewer held-out people, there are fewer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    autoencoders: AutoencoderFigureSettings = AutoencoderFigureSettings()
    quartile_people: int = Field(8, ge=2, description="held-out people whose teachers' LoRAs are damaged (Fig. 4)")
    quartile_prompts: int = Field(2, ge=1, description="of evaluate.prompts, the first ones, drawn for each damage")
    grid_people: int = Field(3, ge=1, description="people in Fig. 6, the first ones whose pictures were kept")
    grid_prompts: int = Field(3, ge=1, description="of each of them, the first ones")
    denoising_people: int = Field(2, ge=1, description="held-out people whose denoising is shown (Fig. 8a)")
    denoising_pictures: int = Field(6, ge=2, description="steps of it that are drawn")
    map_training: int = Field(300, ge=3, description="most training people in Fig. 8b; their LoRAs are kept in memory")
    map_generated: int = Field(32, ge=2, description="most held-out people in it, each by own and generated LoRA")
