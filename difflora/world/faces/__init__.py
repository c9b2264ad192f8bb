"""The embedded world's face pack: a detector in SCRFD's format, a recogniser in ArcFace's, both loaded by InsightFace.

This module is light at import: training code and InsightFace itself are in the modules of this package.
"""

from __future__ import annotations

DET_SIZE = (128, 128)
"""Width and height at which the pack's detector looks at a picture (``FaceAnalysis.prepare(det_size=...)``)."""

PACK_NAME = "world"
"""Name of the pack: ``FaceAnalysis(name=PACK_NAME, root=assets / "insightface")``."""

__all__ = ["DET_SIZE", "PACK_NAME"]
