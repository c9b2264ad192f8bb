"""A small ImageReward checkpoint: the public file's keys, narrow and random."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

VISION, TEXT, LAYERS, PATCH, SIDE = 128, 64, 2, 8, 32
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "man", "woman", "smiling", ",", "##s"]


def save_image_reward(folder: Path) -> None:
    """Writes ``model.safetensors`` and ``vocab.txt``."""
    folder.mkdir(exist_ok=True)
    save_file(image_reward_state(), folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")


def image_reward_state() -> dict[str, Tensor]:
    """Weights with the keys of ImageReward.pt: timm's ViT, BLIP's BERT, and five linear layers."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def put(name: str, *shape: int) -> None:
        state[name] = torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5

    def linear(name: str, inputs: int, outputs: int) -> None:
        put(f"{name}.weight", outputs, inputs)
        put(f"{name}.bias", outputs)

    def norm(name: str, width: int) -> None:
        put(f"{name}.weight", width)
        put(f"{name}.bias", width)

    eyes, words = "blip.visual_encoder", "blip.text_encoder"
    put(f"{eyes}.cls_token", 1, 1, VISION)
    put(f"{eyes}.pos_embed", 1, (SIDE // PATCH) ** 2 + 1, VISION)
    put(f"{eyes}.patch_embed.proj.weight", VISION, 3, PATCH, PATCH)
    put(f"{eyes}.patch_embed.proj.bias", VISION)
    norm(f"{eyes}.norm", VISION)
    for number in range(LAYERS):
        block = f"{eyes}.blocks.{number}"
        norm(f"{block}.norm1", VISION)
        norm(f"{block}.norm2", VISION)
        linear(f"{block}.attn.qkv", VISION, 3 * VISION)
        linear(f"{block}.attn.proj", VISION, VISION)
        linear(f"{block}.mlp.fc1", VISION, 2 * VISION)
        linear(f"{block}.mlp.fc2", 2 * VISION, VISION)
    state[f"{words}.embeddings.position_ids"] = torch.arange(40)[None]
    put(f"{words}.embeddings.word_embeddings.weight", len(WORDS) + 2, TEXT)
    put(f"{words}.embeddings.position_embeddings.weight", 40, TEXT)
    norm(f"{words}.embeddings.LayerNorm", TEXT)
    for number in range(LAYERS):
        layer = f"{words}.encoder.layer.{number}"
        for kind, width in (("attention", TEXT), ("crossattention", VISION)):
            linear(f"{layer}.{kind}.self.query", TEXT, TEXT)
            linear(f"{layer}.{kind}.self.key", width, TEXT)
            linear(f"{layer}.{kind}.self.value", width, TEXT)
            linear(f"{layer}.{kind}.output.dense", TEXT, TEXT)
            norm(f"{layer}.{kind}.output.LayerNorm", TEXT)
        linear(f"{layer}.intermediate.dense", TEXT, 2 * TEXT)
        linear(f"{layer}.output.dense", 2 * TEXT, TEXT)
        norm(f"{layer}.output.LayerNorm", TEXT)
    linear("blip.vision_proj", VISION, 16)
    linear("blip.text_proj", TEXT, 16)
    for place, (inputs, outputs) in {0: (TEXT, 32), 2: (32, 16), 4: (16, 8), 6: (8, 4), 7: (4, 1)}.items():
        linear(f"mlp.layers.{place}", inputs, outputs)
    return state
