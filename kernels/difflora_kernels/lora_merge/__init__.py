"""W' = W + scale * B A for all matrices of a model at once, from flat LoRA vectors."""

from difflora_kernels.lora_merge.function import merge_lora
from difflora_kernels.lora_merge.layout import FlatLayout, Statistics
from difflora_kernels.lora_merge.merge import LoraMerge

__all__ = ["FlatLayout", "LoraMerge", "Statistics", "merge_lora"]
