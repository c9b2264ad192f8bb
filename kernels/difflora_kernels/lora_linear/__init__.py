"""y = base_out + scale_k * (x A_k^T) B_k^T for a batch in which every sample has a LoRA of its own.

`difflora.corpus.many` stays on torch's bmm until a benchmark on a GPU shows that the kernel wins.
"""

from difflora_kernels.lora_linear.function import lora_linear

__all__ = ["lora_linear"]
