"""Which base model a LoRA belongs to."""

from __future__ import annotations

import hashlib
import inspect
import json

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from difflora.errors import BadParameter


class BaseModelId(BaseModel):
    """A base model's name and, where known, the hash of its UNet's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="hub name or the world's name for it, never a path of one machine")
    config_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")

    @classmethod
    def of(cls, name: str, unet: nn.Module) -> BaseModelId:
        """The identity of a loaded UNet.

        The hash leaves out what is private or at its default, so that a later diffusers with more settings gives
        the same one.

        Raises:
            BadParameter: if the UNet has no configuration.
        """
        config = getattr(unet, "config", None)
        if config is None:
            raise BadParameter(f"{name}: a {type(unet).__name__} has no config; give a diffusers UNet")
        parameters = inspect.signature(type(unet).__init__).parameters
        own = {
            key: value
            for key, value in dict(config).items()
            if not key.startswith("_") and not (key in parameters and _same(value, parameters[key].default))
        }
        return cls(name=name, config_sha256=hashlib.sha256(_text([type(unet).__name__, own]).encode()).hexdigest())

    def difference(self, other: BaseModelId) -> str | None:
        """What tells two base models apart, naming both; None where they are the same as far as known."""
        if self.name != other.name:
            return f"base model {self.name!r} where {other.name!r} is needed"
        if self.config_sha256 and other.config_sha256 and self.config_sha256 != other.config_sha256:
            return f"UNet configuration {self.config_sha256} of {self.name!r} where {other.config_sha256} is needed"
        return None


def _same(one: object, two: object) -> bool:
    return two is not inspect.Parameter.empty and _text(one) == _text(two)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
