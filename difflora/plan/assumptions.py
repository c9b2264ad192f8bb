"""What a plan takes for granted: named, with units and sources, each to be set on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difflora.errors import BadParameter


class Assumptions(BaseModel):
    """About machine, picture making and storage; the defaults are an H200's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str = Field("H200", description="what the figures below are of")
    utilisation: float = Field(
        0.4,
        gt=0,
        le=1,
        description="part of the peak that diffusion models reach in training and sampling, eager or compiled; 0.3 to "
        "0.5 are reported",
    )
    peak_tflops: float = Field(790.0, gt=0, description="matrix products in bf16, measured on an H200")
    bandwidth_gbs: float = Field(4300.0, gt=0, description="GB/s of device memory, measured by copying on an H200")
    bandwidth_use: float = Field(
        0.7, gt=0, le=1, description="part of it that elementwise operations reach, with no operations fused"
    )
    memory_gib: float = Field(139.0, gt=0, description="of the device, an H200's")
    checkpointed: float = Field(
        0.15, gt=0, le=1, description="part of activations that gradient checkpointing keeps; estimated, not counted"
    )
    copies: float = Field(
        2.0, ge=1, description="of every output on the disk: the workspace's and that of DVC's cache; 1 with reflinks"
    )

    @classmethod
    def of_device(cls, device: str) -> Assumptions:
        """The defaults for ``models.device``."""
        if device.startswith("cuda"):
            return cls()
        return cls(
            machine="2 CPU cores",
            utilisation=0.3,
            peak_tflops=0.19,  # 32 operations a cycle and core with AVX2, at 3 GHz
            bandwidth_gbs=20.0,
            memory_gib=16.0,
        )

    def with_changes(self, words: Sequence[str]) -> Assumptions:
        """These with others in the place of some.

        Args:
            words: ``NAME=VALUE`` each.

        Raises:
            BadParameter: for another name or a value out of range.
        """
        changes = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in type(self).model_fields:
                raise BadParameter(f"--assume {word!r}: give NAME=VALUE with {', '.join(type(self).model_fields)}")
            changes[name] = value
        try:
            return type(self).model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            raise BadParameter(f"--assume {first['loc'][0]}={first['input']}: {first['msg']}") from error

    def seconds(self, flops: float, moved: float) -> float:
        """Time of so many operations and bytes: whichever takes longer."""
        return max(
            flops / (self.peak_tflops * 1e12 * self.utilisation),
            moved / (self.bandwidth_gbs * 1e9 * self.bandwidth_use),
        )
