"""Fig. 2: does an autoencoder reconstruct low-rank features of faces better than full-rank ones?

The paper says so and gives no protocol. Here each colour channel of a person's picture, a matrix, is cut to its first r
singular values, and autoencoders that differ in nothing else learn the pictures of one rank each: the same layers,
first weights, batches and steps. PSNR and SSIM compare a reconstruction with the picture of that rank, on people who
were not learnt from.

Low-rank pictures also vary less, so any guess is nearer to them. Hence two yardsticks beside: the same figures of the
guess that is best without looking (the mean of the pictures learnt from), and the part of the variance about that mean
which an autoencoder explains, which a smaller variance does not raise by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from difflora.errors import BadParameter
from difflora.evaluation.figures.canvas import BLUE, GREY, Array, Drawing, Summary, panels, whiskers
from difflora.evaluation.figures.settings import AutoencoderFigureSettings
from difflora.evaluation.intervals import difference, in_words, interval
from difflora.models.layers import zero
from difflora.training.reproducible import seeded

METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "explained": "explained variance (R²)"}


@dataclass(frozen=True)
class Reconstructed:
    """How well each rank is reconstructed.

    Attributes:
        ranks: R ranks, rising; the last is the full one.
        people: held-out people.
        pictures: that each autoencoder learnt from.
        compression: numbers of a picture over numbers of its latent.
        steps: of each training.
        learnt: ``psnr``, ``ssim`` and ``explained`` -> R summaries over people.
        guess: ``psnr`` and ``ssim`` -> the same of the mean picture.
        gain: metric -> lowest rank minus full rank, paired over people.
    """

    ranks: list[int]
    people: int
    pictures: int
    compression: float
    steps: int
    learnt: dict[str, list[Summary]]
    guess: dict[str, list[Summary]]
    gain: dict[str, Summary]


def truncate(pictures: Tensor, rank: int) -> Tensor:
    """Pictures (N, C, H, W) whose channels are their best approximations of a rank (Eckart and Young)."""
    left, values, right = torch.linalg.svd(pictures, full_matrices=False)  # (N, C, H, K), (N, C, K), (N, C, K, W)
    cut: Tensor = left[..., :rank] * values[..., None, :rank] @ right[..., :rank, :]
    return cut


def shrink(pictures: Tensor, size: int) -> Tensor:
    """Pictures (N, 3, H, W) uint8 as (N, 3, size, size) float32 in [0, 1]."""
    return F.interpolate(pictures.float() / 255, (size, size), mode="bilinear", antialias=True, align_corners=False)


def measure_autoencoders(
    train: Tensor,
    test: Sequence[Tensor],
    settings: AutoencoderFigureSettings,
    seed: int,
    on_step: Callable[[int], object] | None = None,
) -> Reconstructed:
    """Trains an autoencoder for each rank and measures it.

    Args:
        train: (N, 3, S, S) float32 in [0, 1], of training people.
        test: (K, 3, S, S) of each held-out person.
        settings: how.
        seed: of first weights and batches.
        on_step: told of each step.

    Raises:
        BadParameter: if there is nothing to learn from, or fewer than 2 people to measure on.
    """
    if len(train) < 2 or len(test) < 2:
        raise BadParameter(
            f"figures: {len(train)} pictures to learn from and {len(test)} held-out people; give at least 2 of each"
        )
    owners = torch.arange(len(test)).repeat_interleave(torch.tensor([len(one) for one in test]))  # (M,)
    ranks = [*sorted(settings.ranks), settings.size]
    learnt: dict[str, list[Array]] = {name: [] for name in METRICS}
    guess: dict[str, list[Array]] = {name: [] for name in METRICS}
    compression = 0.0
    for rank in ranks:
        known, unseen = truncate(train, rank), truncate(torch.cat(list(test)), rank)  # (N, 3, S, S), (M, 3, S, S)
        mean = known.mean(0)  # (3, S, S)
        network, compression = _train(known - mean, settings, seed, on_step)
        with torch.no_grad():
            made = torch.cat([network(part) for part in (unseen - mean).split(settings.batch_size)]) + mean
        for found, pictures in ((learnt, made), (guess, mean.expand_as(unseen))):
            for name, values in _scores(pictures, unseen, mean).items():
                found[name].append(_by_person(values, owners, len(test)))
    return Reconstructed(
        ranks,
        len(test),
        len(train),
        compression,
        settings.steps,
        {name: [interval(values) for values in columns] for name, columns in learnt.items()},
        {name: [interval(values) for values in guess[name]] for name in ("psnr", "ssim")},
        {name: difference(columns[0], columns[-1]) for name, columns in learnt.items()},
    )


def _build(settings: AutoencoderFigureSettings) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutions that halve the sides and double them again around a narrow middle; untrained they give zeros."""
    down: list[nn.Module] = []
    for inputs, outputs in zip((3, *settings.channels), settings.channels, strict=False):
        down += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.SiLU()]
    up: list[nn.Module] = [nn.Conv2d(settings.latent_channels, settings.channels[-1], 1)]
    backwards = settings.channels[::-1]
    for inputs, outputs in zip(backwards, (*backwards[1:], 3), strict=True):
        up += [nn.SiLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
    zero(up[-1])
    return nn.Sequential(*down, nn.Conv2d(settings.channels[-1], settings.latent_channels, 1)), nn.Sequential(*up)


def _train(
    pictures: Tensor, settings: AutoencoderFigureSettings, seed: int, on_step: Callable[[int], object] | None
) -> tuple[nn.Module, float]:
    """An autoencoder of pictures without their mean, and how many times smaller a latent is."""
    with seeded(seed):
        encoder, decoder = _build(settings)
    network = nn.Sequential(encoder, decoder)
    optimizer = torch.optim.Adam(network.parameters(), settings.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.steps):
        batch = pictures[torch.randint(len(pictures), (settings.batch_size,), generator=generator)]  # (B, 3, S, S)
        F.mse_loss(network(batch), batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if on_step is not None:
            on_step(1)
    with torch.no_grad():
        latent = encoder(pictures[:1])
    return network, pictures[0].numel() / latent.numel()


def _scores(made: Tensor, true: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """Of each picture, (M,): PSNR, SSIM, and the part of its squared distance from the mean that is explained."""
    error = (made - true).square().mean((1, 2, 3))  # (M,)
    psnr = peak_signal_noise_ratio(made, true, data_range=1.0, dim=(1, 2, 3), reduction="none")
    ssim = structural_similarity_index_measure(made, true, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)
    return {"psnr": psnr, "ssim": ssim, "explained": 1 - error / (true - mean).square().mean((1, 2, 3))}


def _by_person(values: Tensor, owners: Tensor, people: int) -> Array:
    """Each person's mean, (P,)."""
    sums = torch.zeros(people, dtype=torch.float64).index_add_(0, owners, values.double())
    means: Array = (sums / owners.bincount(minlength=people)).numpy()
    return means


def draw_autoencoders(found: Reconstructed) -> Drawing:
    """A panel a metric over the ranks; the guess without looking as a dotted line."""
    figure, axes = panels(len(METRICS), 11, 3.8)
    places = range(len(found.ranks))
    for panel, (name, label) in zip(axes, METRICS.items(), strict=True):
        mean, lengths = whiskers(found.learnt[name])
        panel.errorbar(places, mean, lengths, color=BLUE, marker="o", capsize=3, linewidth=1.8, label="autoencoder")
        if name in found.guess:
            mean, lengths = whiskers(found.guess[name])
            panel.errorbar(
                places, mean, lengths, color=GREY, marker="s", capsize=3, linestyle=":", label="mean picture"
            )
        panel.set_xticks(places, [*map(str, found.ranks[:-1]), f"{found.ranks[-1]}\n(full)"])
        panel.set_xlabel("rank of the pictures")
        panel.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=10)
    lowest, full = found.ranks[0], found.ranks[-1]
    gains = "; ".join(f"{METRICS[name]} {in_words(summary, 2)}" for name, summary in found.gain.items())
    ends = "; ".join(
        f"{METRICS[name]} {found.learnt[name][0]['mean']:.2f} at rank {lowest}, {found.learnt[name][-1]['mean']:.2f} "
        f"at rank {full}"
        for name in METRICS
    )
    return Drawing(
        figure,
        "Fig. 2: autoencoders of low-rank and of full-rank pictures of faces",
        "Each colour channel of a picture is cut to its first singular values; convolutional autoencoders with the "
        f"same layers, first weights, batches and {found.steps} steps, {found.compression:.0f} times smaller in the "
        f"middle, learn {found.pictures} pictures of one rank each, {full}x{full} pixels, and are measured on "
        f"{found.people} other people against pictures of that rank; whiskers are 95% bootstrap intervals over people. "
        f"Rank {lowest} minus full rank, paired over people: {gains}. PSNR and SSIM rise by themselves where pictures "
        "vary less: the dotted line is what the mean picture reaches, and the right panel counts variance about it.",
        f"Lines over the rank of the pictures: {ends}.",
    )


def rows_per_person(pictures: int, people: int) -> int:
    """How many pictures of each of some people make at most so many, at least one."""
    return max(1, math.floor(pictures / people))
