"""Public weights by name: licences, and the sha256 of files that have been published with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Licence:
    """Terms that weights or data come under.

    Attributes:
        name: as their publisher calls it.
        url: where it stands.
        note: what to mind above all.
    """

    name: str
    url: str
    note: str

    def __str__(self) -> str:
        return f"{self.name} ({self.note}; {self.url})"


SDXL = Licence(
    "CreativeML Open RAIL++-M",
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    "use-based restrictions, which pass on to what is derived, LoRAs included",
)
SD15 = Licence(
    "CreativeML Open RAIL-M",
    "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
    "use-based restrictions, which pass on to what is derived, LoRAs included",
)
INSIGHTFACE = Licence(
    "InsightFace model licence",
    "https://github.com/deepinsight/insightface#license",
    "pretrained models are for non-commercial research; what is trained on their features is in question too",
)
CLIP = Licence("MIT", "https://github.com/openai/CLIP/blob/main/LICENSE", "no restriction")
PHOTOMAKER = Licence("Apache-2.0", "https://github.com/TencentARC/PhotoMaker/blob/main/LICENSE", "keep the notice")
DINO = Licence("Apache-2.0", "https://github.com/facebookresearch/dino/blob/main/LICENSE", "keep the notice")
IMAGE_REWARD = Licence("Apache-2.0", "https://github.com/THUDM/ImageReward/blob/main/LICENSE", "keep the notice")
FFHQ = Licence(
    "CC BY-NC-SA 4.0",
    "https://github.com/NVlabs/ffhq-dataset",
    "non-commercial, share alike; each picture has an author's licence of its own",
)
CELEBA = Licence(
    "CelebA agreement",
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "non-commercial research; pictures are not to be passed on",
)

HUB: Mapping[str, Licence] = MappingProxyType(
    {
        "stabilityai/stable-diffusion-xl-base-1.0": SDXL,
        "stable-diffusion-v1-5/stable-diffusion-v1-5": SD15,
        "openai/clip-vit-large-patch14": CLIP,
        "TencentARC/PhotoMaker": PHOTOMAKER,
    }
)
"""Licences of what the presets take from the hub."""
DATA: Mapping[str, Licence] = MappingProxyType({"ffhq": FFHQ, "celeba": CELEBA})
"""Word in an image source's options -> licence of those pictures."""

PACKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"buffalo_l": ("det_10g.onnx", "w600k_r50.onnx"), "antelopev2": ("scrfd_10g_bnkps.onnx", "glintr100.onnx")}
)
"""InsightFace's packs -> files of detector and recogniser."""
BYTES: Mapping[str, int] = MappingProxyType({"buffalo_l": 191_307_687, "openai/clip-vit-large-patch14": 1_710_540_580})
"""What a plan counts before the files are there."""

SHA256: Mapping[str, str] = MappingProxyType(
    {
        "det_10g.onnx": "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
        "scrfd_10g_bnkps.onnx": "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
        "w600k_r50.onnx": "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        "glintr100.onnx": "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf",
        "sd_xl_base_1.0.safetensors": "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
        "v1-5-pruned-emaonly.safetensors": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    }
)
"""Files that have the same bytes wherever they are published, by their public names. All others are recorded in a lock
file when they are first seen."""

_PACK = re.compile(r"buffalo|antelope", re.IGNORECASE)
_CARD = re.compile(r"^license: *(?P<name>.+)$", re.MULTILINE)


def is_insightface(pack: str) -> bool:
    """Whether a face pack is one of InsightFace's own."""
    return bool(_PACK.search(pack))


def card_licence(folder: Path) -> str | None:
    """What the model card of a folder, or of the one above, calls its licence."""
    for place in (folder, folder.parent):
        card = place / "README.md"
        if card.is_file() and (match := _CARD.search(card.read_text(errors="replace")[:2000])):
            return match["name"].strip()
    return None
