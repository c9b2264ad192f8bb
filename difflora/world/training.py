"""Training the world's models in order, measuring them, and writing down how they came to be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from difflora.errors import BadParameter, DiffLoRAError
from difflora.world.card import write_card
from difflora.world.loop import time_limit
from difflora.world.manifest import (
    MANIFEST,
    Manifest,
    ModelRecord,
    describe_machine,
    list_files,
    now,
    read_manifest,
    record_bars,
    write_manifest,
)
from difflora.world.registry import WorldModel, resolve
from difflora.world.verify import Row, check_seed, run_verifications

logger = logging.getLogger(__name__)

BARS_SEED = 1234
"""Seed on which the manifest's bars are measured."""


def train_models(
    names: Sequence[str],
    assets: Path,
    work: Path,
    *,
    limit_s: float | None = None,
    verify: bool = True,
    seed: int = BARS_SEED,
    count: int | None = None,
) -> Manifest:
    """Trains models in dependency order, then measures the bars that can be measured.

    Each training goes on from its checkpoint in ``work``. The manifest and the model card are written after every
    model, so that a stop in between loses nothing that is finished.

    Args:
        names: names or groups of the registry; all models for no name.
        assets: where the finished models go.
        work: where pictures and checkpoints are kept.
        limit_s: stop each training after about so many seconds; calling again goes on.
        verify: whether to measure the bars.
        seed: seed of the bars.
        count: size of the bars' samples; None for the full size.

    Returns:
        The manifest as it was written last.

    Raises:
        BadParameter: for an unknown name, limit or seed.
        DiffLoRAError: if a training fails, or leaves no files.
    """
    models = resolve(names)
    check_seed(seed, count)
    if limit_s is not None and limit_s <= 0:
        raise BadParameter(f"time limit is {limit_s:g} seconds: give a positive one")
    for path in (assets, work):
        if path.exists() and not path.is_dir():
            raise BadParameter(f"{path} is not a folder: give one, or a name that is free")
    manifest = _read_or_begin(assets)
    for model in models:
        with time_limit(limit_s):
            facts = model.train(None, assets, work)
        # Read anew: another model may have been trained beside this one meanwhile.
        manifest = _with_training(_read_or_begin(assets), model, facts, assets)
        _write(assets, manifest)
    return _measure(models, assets, manifest, seed, count) if verify else manifest


def _read_or_begin(assets: Path) -> Manifest:
    return read_manifest(assets) if (assets / MANIFEST).exists() else Manifest()


def record_rows(rows: Sequence[Row], assets: Path, seed: int) -> Manifest:
    """Writes measured bars to the manifest and the card; those of other models stay.

    Raises:
        BadFile: if the manifest is missing.
        BadParameter: if a measured model is not in it.
    """
    manifest = read_manifest(assets)
    for name in dict.fromkeys(row.model for row in rows):
        if name not in manifest.models:
            raise BadParameter(f"{name} is not in {assets / MANIFEST}: train it there first")
        bars = record_bars([row.bar for row in rows if row.model == name])
        record = manifest.models[name].model_copy(update={"bars": bars, "bars_seed": seed})
        manifest = manifest.model_copy(update={"models": manifest.models | {name: record}})
    _write(assets, manifest)
    return manifest


def _measure(models: Sequence[WorldModel], assets: Path, manifest: Manifest, seed: int, count: int | None) -> Manifest:
    """Measures what can be measured; a model whose bars need one that is not there yet gets a warning instead."""
    for model in models:
        missing = [name for name in model.verified_with if name not in manifest.models]
        if missing:
            logger.warning("%s: its bars need %s; train them, then `verify --record`", model.name, ", ".join(missing))
            continue
        manifest = record_rows(run_verifications([model.name], assets, seed, count), assets, seed)
    return manifest


def _with_training(manifest: Manifest, model: WorldModel, facts: dict[str, Any], assets: Path) -> Manifest:
    files = list_files(assets, model.name)
    if not files:
        raise DiffLoRAError(f"{model.name}: its training left no file in {assets} ({', '.join(model.files)})")
    try:
        steps, seconds, settings = int(facts["steps"]), round(float(facts["seconds"]), 1), dict(facts["settings"])
    except KeyError as error:
        raise DiffLoRAError(f"{model.name}: its training did not say its {error.args[0]}") from error
    models = dict(manifest.models)
    models[model.name] = ModelRecord(
        command=f"difflora world train {model.name}",
        steps=steps,
        seconds=seconds,
        settings=settings,
        machine=describe_machine(),
        date=now(),
        files=files,
    )
    for name in model.rewrites:
        if name in models:
            models[name] = models[name].model_copy(update={"files": list_files(assets, name)})
    order = {m.name: i for i, m in enumerate(resolve(()))}
    return Manifest(models=dict(sorted(models.items(), key=lambda item: order.get(item[0], len(order)))))


def _write(assets: Path, manifest: Manifest) -> None:
    write_manifest(assets, manifest)
    write_card(assets, manifest)
