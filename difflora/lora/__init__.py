"""A LoRA as data: layout, flat vector, canonical form, normalisation, files, merge."""

from difflora.lora.layout import LoraLayout, LoraModule, LoraTensors

__all__ = ["LoraLayout", "LoraModule", "LoraTensors"]
