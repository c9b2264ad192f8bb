"""Triton kernels of DiffLoRA: a package of its own that needs torch and triton alone, not the rest of DiffLoRA.

It holds no kernel yet. What is planned here is the weight-preserving loss and the merge of LoRA weights, each as a
kernel, its launcher with autograd, the function that people call, and a torch reference that is also the CPU path.
"""

from __future__ import annotations

__version__ = "0.1.0"
