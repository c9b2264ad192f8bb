"""The five-point alignment of InsightFace (``insightface.utils.face_align.norm_crop``), batched in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CROP = 112
"""Side of an aligned crop in pixels."""

TEMPLATE = torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace's places, (5, 2) x and y in a 112 px crop: eyes, nose, mouth corners, the left one in the picture first."""


def similarity(landmarks: Tensor) -> Tensor:
    """The similarity transform that brings landmarks nearest to the template.

    Umeyama's least squares. In the plane, with points as complex numbers about their means, it is
    ``a = sum(conj(z) w) / sum(|z|^2)``: scale and rotation in one number.

    Args:
        landmarks: (N, 5, 2) float32, x and y in pixels of the picture.

    Returns:
        (N, 2, 3) float32, picture to crop: ``crop = M[:, :, :2] @ picture + M[:, :, 2]``.

    Raises:
        ValueError: if the landmarks have another shape, are not finite or coincide.
    """
    if landmarks.dim() != 3 or landmarks.shape[1:] != (5, 2):
        raise ValueError(f"landmarks are {tuple(landmarks.shape)}, not (N, 5, 2)")
    template = TEMPLATE.to(landmarks)
    mean, target = landmarks.mean(dim=1), template.mean(dim=0)  # (N, 2), (2,)
    z, w = landmarks - mean[:, None], template - target  # (N, 5, 2), (5, 2)
    spread = z.square().sum(dim=(1, 2))  # (N,)
    if not bool((torch.isfinite(spread) & (spread > 0)).all()):
        raise ValueError("landmarks must be finite and must not all coincide")
    cos = (z * w).sum(dim=(1, 2)) / spread
    sin = (z[..., 0] * w[:, 1] - z[..., 1] * w[:, 0]).sum(dim=1) / spread
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], dim=1)  # (N, 2, 2)
    shift = target - (turn @ mean[:, :, None])[:, :, 0]  # (N, 2)
    return torch.cat([turn, shift[:, :, None]], dim=2)


def warp(images: Tensor, matrices: Tensor, size: int = CROP) -> Tensor:
    """Draws each picture through its similarity transform, bilinear, black outside, as ``cv2.warpAffine`` does.

    Args:
        images: (N, C, H, W) float32.
        matrices: (N, 2, 3) float32, picture to output, in pixels whose centres have whole coordinates.
        size: side of the output in pixels.

    Returns:
        (N, C, size, size) float32.
    """
    height, width = images.shape[-2:]
    turn, shift = matrices[:, :, :2], matrices[:, :, 2:]  # (N, 2, 2), (N, 2, 1)
    back = turn.transpose(1, 2) / torch.linalg.det(turn)[:, None, None]  # the inverse of a scaled rotation
    steps = torch.arange(size, dtype=images.dtype, device=images.device)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = torch.stack([x, y]).reshape(1, 2, -1)  # (1, 2, S*S)
    source = (back @ (places - shift)).transpose(1, 2)  # (N, S*S, 2)
    extent = torch.tensor([width - 1, height - 1], dtype=images.dtype, device=images.device)
    grid = (source * (2 / extent) - 1).reshape(len(images), size, size, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def align(images: Tensor, landmarks: Tensor) -> Tensor:
    """Crops faces as InsightFace hands them to a recogniser.

    Args:
        images: (N, 3, H, W) float32.
        landmarks: (N, 5, 2) float32, x and y in pixels.

    Returns:
        (N, 3, 112, 112) float32, in the range of ``images``.

    Raises:
        ValueError: if the landmarks have another shape, are not finite or coincide.
    """
    return warp(images, similarity(landmarks))
