"""Triton kernels of DiffLoRA: a package of its own that needs torch and, for GPUs, triton; not the rest of DiffLoRA.

Each kernel has four parts: the Triton kernel (``kernel``), its launches (``launch``) and operator with autograd
(``op``), the function that people call (``function``), and the same in torch (``reference``), which is also the path of
CPUs. ``backend`` chooses between them.
"""

from difflora_kernels.backend import use_backend
from difflora_kernels.lora_linear import lora_linear
from difflora_kernels.lora_merge import FlatLayout, LoraMerge, Statistics, merge_lora
from difflora_kernels.wp_loss import LossTerms, WeightPreservedLoss, weight_preserved_loss

__version__ = "0.1.0"

__all__ = [
    "FlatLayout",
    "LoraMerge",
    "LossTerms",
    "Statistics",
    "WeightPreservedLoss",
    "lora_linear",
    "merge_lora",
    "use_backend",
    "weight_preserved_loss",
]
