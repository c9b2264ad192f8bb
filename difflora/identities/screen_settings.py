"""What is asked of photographs, and what becomes of people who are there twice."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Repeated = Literal["refuse", "merge", "drop", "keep"]


class ScreenSettings(BaseModel):
    """How photographs are looked over before any is used; pictures that a source makes itself are not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_face: int = Field(64, ge=1, description="shorter side of a face, in pixels of the photograph")
    bystanders: float = Field(
        0.0, ge=0, lt=1, description="other faces are let pass up to this part of the largest one's area; 0 for none"
    )
    same_picture: float = Field(
        0.97, gt=0, le=1, description="cosine from which two pictures, seen from afar, are the same, if the faces agree"
    )
    same_person: float = Field(
        0.65,
        gt=0,
        le=1,
        description="cosine of face embeddings from which two people are the same; mind the pack's scale",
    )
    repeated: Repeated = Field(
        "refuse",
        description=(
            "people and pictures that are there twice: an error, one person of all pictures, the first one alone, or "
            "left as they are with a warning"
        ),
    )
