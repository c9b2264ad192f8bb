"""Mixed image features: how much the face counts and how much the picture, as the person decides (paper, 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difflora.models.layers import Mlp


class MixedImageFeatures(nn.Module):
    """Equations 4 to 6: two scalars by softmax weigh two MLPs' outputs.

    M = concat(E_face(I), E_img(I)); (S_img, S_face) = softmax(linear(M)); F = S_img MLP(E_img) + S_face MLP(E_face).

    Where one of the features is switched off (table 3), the other's MLP stands alone, without a gate.

    Args:
        face_dim: length of E_face.
        image_dim: length of E_img.
        width: length of F.
        use_face: whether E_face takes part.
        use_image: whether E_img takes part.
    """

    def __init__(
        self, face_dim: int, image_dim: int, width: int, *, use_face: bool = True, use_image: bool = True
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(face_dim + image_dim, 2) if use_face and use_image else None
        self.face = Mlp(face_dim, width, width) if use_face else None
        self.image = Mlp(image_dim, width, width) if use_image else None

    def scores(self, face: Tensor, image: Tensor) -> Tensor:
        """(B, 2): S_img and S_face, which sum to 1 (equations 4 and 5)."""
        if self.gate is None:
            share = 0.0 if self.image is None else 1.0
            return face.new_tensor([share, 1 - share]).expand(len(face), 2)
        mixed = torch.cat([face, image], dim=-1)  # (B, Df + Di): M
        return self.gate(mixed).softmax(dim=-1)  # type: ignore[no-any-return]  # (B, 2)

    def forward(self, face: Tensor, image: Tensor) -> Tensor:
        """Mixes the features (equation 6).

        Args:
            face: (B, Df) E_face(I).
            image: (B, Di) E_img(I).

        Returns:
            (B, W): F.
        """
        parts = []
        image_score, face_score = self.scores(face, image).unsqueeze(-1).unbind(1)  # (B, 1) each
        if self.image is not None:
            parts.append(image_score * self.image(image))  # (B, W)
        if self.face is not None:
            parts.append(face_score * self.face(face))  # (B, W)
        return torch.stack(parts).sum(0)  # (B, W)
