"""Who the faces of pictures are, with a gradient: InsightFace's alignment and recogniser in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.encoders.align import CROP, align
from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.onnx_network import OnnxNetwork
from difflora.errors import BadFile


class FaceGradient(nn.Module):
    """A pack's identities of pictures, as functions that gradients flow back through.

    Where faces are is found by the pack's detector, which has no gradient; the crop and the recogniser have one.

    Args:
        faces: the pack.

    Raises:
        BadFile: if its recogniser takes other crops than 112 x 112, or has an operator that torch cannot stand in for.
    """

    def __init__(self, faces: InsightFaceEncoder) -> None:
        super().__init__()
        if faces.crop_size != CROP:
            raise BadFile(f"{faces.recogniser.file}: takes crops of {faces.crop_size} pixels; {CROP} is known here")
        self._faces = (faces,)  # in a tuple: no part of this module's weights
        self.network = OnnxNetwork(faces.recogniser.file)
        self._mean, self._spread = faces.recogniser.mean, faces.recogniser.spread

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Identities of the largest faces.

        Args:
            pictures: (N, 3, H, W) float32 in [0, 1], RGB.

        Returns:
            (N, D) float32 unit vectors, zeros where no face was found; (N,) bool, where one was.
        """
        size, device = len(pictures), pictures.device
        found = torch.zeros(size, dtype=torch.bool, device=device)
        embeddings = pictures.new_zeros(size, self._faces[0].dimension)
        points = []
        pixels = (pictures.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for place, picture in enumerate(pixels):
            seen = self._faces[0].faces(picture)
            if seen:
                found[place] = True
                points.append(torch.from_numpy(seen[0].landmarks))
        if points:
            crops = align(pictures[found].clamp(0, 1), torch.stack(points).to(device))  # (n, 3, 112, 112)
            embeddings[found] = F.normalize(self.network((crops * 255 - self._mean) / self._spread), dim=1)
        return embeddings, found
