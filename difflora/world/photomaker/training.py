"""The world's PhotoMaker: trained through the frozen base on pictures of people, one of whom shows another's face.

As in arXiv:2312.04461, 3.4: the base draws one picture of a person while the id encoder looks at others of the same
person; CLIP's vision tower, the fusion and a LoRA of the UNet's attention learn through it. Captions name no trait, so
that who it is can come from the reference pictures alone. The authors had 112,000 pictures and two weeks of eight GPUs;
here the tower first learns to read traits (``traits``), fusion and LoRA begin where they can see each other
(``start``), and what the base draws when traits are named is learnt before, by default instead of, its own loss
(``words``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.lora_keys import to_keys
from difflora.world.clip import FOLDER as CLIP_FOLDER
from difflora.world.clip import load_clip
from difflora.world.generate import load_base
from difflora.world.loop import train
from difflora.world.photomaker.lesson import Lesson
from difflora.world.photomaker.settings import PhotoMakerSettings
from difflora.world.photomaker.start import begin, build_id_encoder, class_word_embeddings
from difflora.world.photomaker.traits import TraitHead, traits_step
from difflora.world.pool import Pool, people_pool

FOLDER, FILE = "photomaker", "photomaker-v1.safetensors"
_ENDS = (".lora_A.weight", ".lora_B.weight")
_WARMUP = 20


def photomaker_file(assets: Path) -> Path:
    """Where it lies: ``assets/photomaker/photomaker-v1.safetensors``."""
    return assets / FOLDER / FILE


def train_photomaker(
    settings: PhotoMakerSettings | None, assets: Path, work: Path, pool: Pool | None = None
) -> dict[str, Any]:
    """Trains PhotoMaker through the base model in ``assets``, and writes it in the public file's keys.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models; base and CLIP must be there.
        work: where pools and checkpoints lie.
        pool: people with several pictures each; None for the pool that all models share.

    Returns:
        Steps, seconds and settings.

    Raises:
        BadFile: if the base or CLIP is missing.
        BadParameter: if someone in the pool has fewer pictures than are looked at and drawn.
    """
    settings = settings or PhotoMakerSettings()
    pipeline = load_base(assets)
    clip, _ = load_clip(assets / CLIP_FOLDER)
    pool = pool if pool is not None else people_pool(folder=work)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False)
    checkpoints = work / "checkpoints" / "photomaker"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        pipeline.unet.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.rank,
                init_lora_weights="gaussian",
                target_modules=["to_q", "to_k", "to_v", "to_out.0"],
            )
        )
        widths = (pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.projection_dim)
        words = class_word_embeddings(pipeline)
        encoder = build_id_encoder(clip, widths, words)
        head = TraitHead(encoder.width, float(words.std(dim=1).mean()))
    lesson = Lesson(pipeline, encoder, pool, settings)
    encoder.train()
    read = train(
        "photomaker: traits",
        {"encoder": encoder, "head": head},
        traits_step(encoder, head, pool, settings.traits_batch_size),
        steps=settings.traits_steps,
        lr=settings.traits_lr,
        checkpoint=checkpoints / "traits",
        seed=settings.seed,
    )
    share = begin(lesson, words)
    report = train(
        "photomaker",
        {"encoder": encoder, "unet": pipeline.unet},
        lesson,
        steps=settings.words_steps + settings.steps,
        lr=settings.lr,
        rates={"attn2.to_v.lora_B": settings.value_rate},
        ema_decay=settings.ema_decay,
        weight_decay=settings.weight_decay,
        checkpoint=checkpoints / "base",
        warmup=_WARMUP,
        seed=settings.seed,
    )
    lora: dict[str, list[Tensor]] = {}
    for key, tensor in sorted(get_peft_model_state_dict(pipeline.unet).items()):  # A before B
        lora.setdefault(key[: -len(_ENDS[0])], []).append(tensor)
    tensors = {key: value.detach().half() for key, value in encoder.state_dict().items()}
    made = PhotoMakerFile(
        tensors,
        {key: value.half() for key, value in to_keys({name: (one[0], one[1]) for name, one in lora.items()}).items()},
        heads=encoder.config.num_attention_heads,
        where=str(photomaker_file(assets)),
    )
    made.check()
    made.save(photomaker_file(assets))
    return {
        "steps": read.steps + report.steps,
        "seconds": read.seconds + report.seconds,
        "traits_read": share,
        "settings": settings.model_dump(mode="json"),
    }
