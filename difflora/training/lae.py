"""Training of the LoRA autoencoder (paper, 3.2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.corpus.reader import Corpus
from difflora.errors import BadParameter
from difflora.lora import BaseModelId, NormalisationSettings
from difflora.models import LaeModelSettings, LoraAutoencoder
from difflora.processes import make_accelerator
from difflora.training.batches import Batch
from difflora.training.explained import explained_variance, reconstructions
from difflora.training.loop import OnLog, TrainReport, train
from difflora.training.reproducible import seeded, weights_digest
from difflora.training.rows import LoraRows
from difflora.training.settings import LoopSettings
from difflora_kernels import weight_preserved_loss


class LaeSettings(BaseModel):
    """Section ``lae``; the defaults are the paper's where it gives them (AdamW, lr 2e-5, batch 4, equation 2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: LaeModelSettings = LaeModelSettings()
    normalisation: NormalisationSettings = NormalisationSettings()
    canonical_form: bool = Field(False, description="LoRAs in canonical form; where starts were not shared")
    reconstruction: Literal["mse", "l1"] = "mse"
    wp_weight: float = Field(1.0, ge=0, description="factor of the weight-preserved loss (equation 2)")
    input_noise: float = Field(0.05, ge=0, description="deviation, at the scale of normalised weights")
    latent_noise: float = Field(0.05, ge=0, description="deviation, in parts of the latents' root mean square")
    pca_rows: int = Field(1024, ge=2, description="most LoRAs that the linear path's start is computed from")
    loop: LoopSettings = LoopSettings(batch_size=4, lr=2e-5)


@dataclass(frozen=True)
class TrainedLae:
    """A trained autoencoder.

    Attributes:
        model: with averaged weights and all statistics, in eval mode.
        report: of the loop.
        metrics: ``compression_ratio``, ``latent_size``, ``parameters``, ``explained_train`` and, where there are such
            people, ``explained_validation``.
        modules: each module's variance explained, on validation people where there are any.
    """

    model: LoraAutoencoder
    report: TrainReport
    metrics: dict[str, float]
    modules: dict[str, float]


class LaeTask(nn.Module):
    """The loss of a batch: reconstruction under noise."""

    def __init__(self, lae: LoraAutoencoder, rows: LoraRows, settings: LaeSettings) -> None:
        super().__init__()
        self.lae = lae
        self._rows, self._settings = rows, settings

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """The scalars ``loss``, ``reconstruction`` and ``weight_preserved``."""
        chosen = self._settings
        rows = self._rows.take(batch.my_places).to(self.lae.mean.device)  # (b, D)
        noise = chosen.input_noise * batch.randn(self.lae.layout.size) if chosen.input_noise else None  # (b, D)
        blur = chosen.latent_noise * batch.randn(self.lae.latent_size) if chosen.latent_noise else None  # (b, Z)
        output = self.lae(rows, noise, blur)
        made = output.reconstruction.float()  # (b, D)
        terms = weight_preserved_loss(
            made, output.rows, wp_weight=chosen.wp_weight, reconstruction=chosen.reconstruction
        )
        return terms._asdict()


def train_lae(
    corpus: Corpus,
    settings: LaeSettings,
    *,
    checkpoint: str | Path,
    base: BaseModelId | None = None,
    alpha: float | None = None,
    trigger_prompt: str = "",
    start: LoraAutoencoder | None = None,
    accelerator: Accelerator | None = None,
    on_log: OnLog | None = None,
    progress: bool = True,
) -> TrainedLae:
    """Trains an autoencoder on the LoRAs of a corpus's training people.

    Args:
        corpus: LoRAs, split by identity.
        settings: how.
        checkpoint: folder of the checkpoint.
        base: the base model that the LoRAs are for; the model carries it.
        alpha: the LoRAs count alpha / rank times; None for the rank.
        trigger_prompt: what a prompt must contain; the model carries it.
        start: a trained autoencoder to go on from, with its statistics of weights; it is not changed.
        accelerator: see ``train``.
        on_log: see ``train``.
        progress: whether to show a bar.

    Returns:
        The model, with statistics of weights and latents, and what was measured.

    Raises:
        BadParameter: if there are too few people, or ``start`` is of another kind.
        BadFile: if corpus or checkpoint are damaged.
        DiffLoRAError: if the training goes wrong.
    """
    accelerator = accelerator or make_accelerator()
    rows = LoraRows(corpus, "train", canonical_form=settings.canonical_form)
    if start is None:
        with seeded(settings.loop.seed):
            lae = LoraAutoencoder.build(
                corpus.layout,
                settings.model,
                settings.normalisation,
                alpha=alpha,
                base=base,
                trigger_prompt=trigger_prompt,
            )
        _start(lae, rows, settings)
    else:
        lae = _continued(start, corpus, settings)
    fingerprint = _fingerprint(rows, settings, start)
    report = train(
        "lae",
        LaeTask(lae, rows, settings),
        rows.names,
        settings.loop,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        accelerator=accelerator,
        on_log=on_log,
        progress=progress,
    )
    lae.fit_latents(batch.to(accelerator.device) for batch in rows)
    metrics, modules = _measure(lae, corpus, rows, settings)
    return TrainedLae(lae, report, metrics, modules)


def _start(lae: LoraAutoencoder, rows: LoraRows, settings: LaeSettings) -> None:
    """Statistics of weights and, for a linear path, the PCA."""
    lae.fit_normalisation(rows)
    if settings.model.linear_path:
        count = min(len(rows), settings.pca_rows)
        spread = [place * len(rows) // count for place in range(count)]  # over the whole split
        lae.linear.start_from(lae.normalisation.apply(rows.take(spread)))


def _continued(start: LoraAutoencoder, corpus: Corpus, settings: LaeSettings) -> LoraAutoencoder:
    """A copy to train on; its latents are as they were before they were rescaled."""
    if start.layout != corpus.layout:
        raise BadParameter(f"start: LoRA layout {start.layout.digest} where {corpus.layout.digest} is needed")
    if start.settings != settings.model:
        raise BadParameter("start: its settings are not those of lae.model; give the same to go on from it")
    return copy.deepcopy(start)


def _fingerprint(rows: LoraRows, settings: LaeSettings, start: LoraAutoencoder | None) -> dict[str, Any]:
    origin = None if start is None else weights_digest(start)
    return {"lae": settings.model_dump(mode="json", exclude={"loop"}), "rows": rows.digest, "start": origin}


def _measure(
    lae: LoraAutoencoder, corpus: Corpus, rows: LoraRows, settings: LaeSettings
) -> tuple[dict[str, float], dict[str, float]]:
    trained = explained_variance(lae, reconstructions(lae, rows))
    metrics = {
        "compression_ratio": round(lae.compression_ratio, 2),
        "latent_size": float(lae.latent_size),
        "parameters": float(sum(parameter.numel() for parameter in lae.parameters())),
        "explained_train": trained.total,
    }
    if not corpus.indices("validation"):
        return metrics, trained.modules
    others = LoraRows(corpus, "validation", canonical_form=settings.canonical_form)
    unseen = explained_variance(lae, reconstructions(lae, others))
    return metrics | {"explained_validation": unseen.total}, unseen.modules
