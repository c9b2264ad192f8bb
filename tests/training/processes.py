"""What a launcher starts in each of its processes: all trainings, with a tiny base.

Run by ``test_processes.py``: CORPUS FEATURES BASE PEOPLE OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.files import write_json
from difflora.models import DitModelSettings, LaeModelSettings
from difflora.processes import make_accelerator
from difflora.training import (
    ConditionFeatures,
    DitSettings,
    EffectSettings,
    LaeSettings,
    LoopSettings,
    train_dit,
    train_lae,
)
from difflora.training.refine_settings import RefineSettings
from tests.training.shades import Shades


def main(corpus_folder: str, features_file: str, base_folder: str, people_folder: str, out: str) -> None:
    corpus, place = Corpus.open(corpus_folder), Path(out)
    accelerator = make_accelerator()
    loop = LoopSettings(steps=6, batch_size=4, lr=1e-3, warmup_steps=1, ema_decay=0.9, log_every=2, save_every=4)
    networks = LaeModelSettings(
        linear_path=True,
        strides=(2, 3),
        channels=(8, 8),
        latent_channels=1,
        width=16,
        heads=2,
        layers=1,
        mlp_width=32,
    )
    base = FrozenBase.open(base_folder, "tiny", hash_files=False)
    lae = train_lae(
        corpus,
        LaeSettings(model=networks, loop=loop, input_noise=0.1, latent_noise=0.1),
        checkpoint=place / "lae",
        base=base.name,
        accelerator=accelerator,
        progress=False,
    )
    settings = DitSettings(
        model=DitModelSettings(num_tokens=2, width=16, heads=2, layers=1, mlp_ratio=2.0, linear_skip=True),
        mixup=0.5,
        loop=loop,
        effect=EffectSettings(enabled=True, images_per_step=2, rollout_steps=2, loop=loop),
        refine=RefineSettings(rounds=1, moves=2, people_at_once=3, steps=2, through=1),
    )
    features = ConditionFeatures.load(features_file)
    dit = train_dit(
        corpus,
        lae.model,
        features,
        settings,
        checkpoint=place / "dit",
        base=base,
        people=PeopleFolder(people_folder),
        faces=Shades(features.face.shape[1]),
        accelerator=accelerator,
        progress=False,
    )
    assert dit.effect_report is not None
    if accelerator.is_main_process:
        histories = {
            "lae": lae.report.history,
            "dit": dit.report.history,
            "effect": dit.effect_report.history,
            "refine": dit.refined,
        }
        write_json(place / "done.json", {"processes": accelerator.num_processes, "histories": histories})


if __name__ == "__main__":
    main(*sys.argv[1:])
