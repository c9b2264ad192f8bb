"""The weight-preserving loss (paper, section 3.2, equation 2) with its reconstruction loss, fused."""

from difflora_kernels.wp_loss.function import LossTerms, WeightPreservedLoss, weight_preserved_loss

__all__ = ["LossTerms", "WeightPreservedLoss", "weight_preserved_loss"]
