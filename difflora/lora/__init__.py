"""A LoRA as data: layout, flat vector, canonical form, normalisation, files, merge."""

from difflora.lora.base_model import BaseModelId
from difflora.lora.canonical import canonical
from difflora.lora.layout import LoraLayout, LoraModule, LoraTensors
from difflora.lora.merge import LoraMerger
from difflora.lora.normalisation import Normalisation, NormalisationSettings
from difflora.lora.weights import LoraWeights

__all__ = [
    "BaseModelId",
    "LoraLayout",
    "LoraMerger",
    "LoraModule",
    "LoraTensors",
    "LoraWeights",
    "Normalisation",
    "NormalisationSettings",
    "canonical",
]
