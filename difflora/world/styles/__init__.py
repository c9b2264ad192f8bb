"""Ways of drawing a picture: photograph, sketch, anime, pixels, watercolour and others, each varied by numbers."""

from difflora.world.styles.paint import KINDS, apply_styles
from difflora.world.styles.table import Styles, sample_styles

__all__ = ["KINDS", "Styles", "apply_styles", "sample_styles"]
