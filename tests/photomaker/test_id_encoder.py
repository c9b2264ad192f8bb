"""The id encoder against its formulas, written out from the file's own tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.id_encoder import IdEncoder, read_sizes

Public = dict[str, dict[str, Tensor]]


def _mlp(x: Tensor, name: str, t: dict[str, Tensor]) -> Tensor:
    start = f"fuse_module.{name}"
    y = F.layer_norm(x, x.shape[-1:], t[f"{start}.layernorm.weight"], t[f"{start}.layernorm.bias"])
    y = F.gelu(F.linear(y, t[f"{start}.fc1.weight"], t[f"{start}.fc1.bias"]))
    return F.linear(y, t[f"{start}.fc2.weight"], t[f"{start}.fc2.bias"])


def _fused(word: Tensor, picture: Tensor, t: dict[str, Tensor]) -> Tensor:
    first = _mlp(torch.cat([word, picture]), "mlp1", t) + word
    second = first + _mlp(first, "mlp2", t)
    return F.layer_norm(second, second.shape, t["fuse_module.layer_norm.weight"], t["fuse_module.layer_norm.bias"])


def test_pictures_become_both_projections_of_the_tower(
    file: PhotoMakerFile, public: Public, photos: list[Image.Image]
) -> None:
    encoder = file.encoder()
    tensors = {key: value.float() for key, value in public["id_encoder"].items()}
    tower = CLIPVisionModelWithProjection(encoder.config)
    tower.load_state_dict({key: tensors[key] for key in tower.state_dict()})
    pixels = encoder.preprocess(photos)
    assert pixels.shape == (3, 3, 28, 28)
    with torch.no_grad():
        seen, expected = encoder.embed(pixels), tower.eval()(pixels)
        pooled = tower.vision_model(pixel_values=pixels).pooler_output
    assert seen.shape == (3, 40)
    torch.testing.assert_close(seen[:, :16], expected.image_embeds)
    torch.testing.assert_close(seen[:, 16:], pooled @ tensors["visual_projection_2.weight"].T)


@torch.no_grad()
def test_pictures_are_stacked_in_the_class_words_place_not_averaged(file: PhotoMakerFile, public: Public) -> None:
    encoder = file.encoder()
    tensors = {key: value.float() for key, value in public["id_encoder"].items()}
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn(2, 9, 40, generator=generator)
    pictures = torch.randn(2, 3, 40, generator=generator)
    places = torch.tensor([2, 5])
    made = encoder.put(prompts, pictures, places)
    for row, place in enumerate(places.tolist()):
        for k in range(3):
            expected = _fused(prompts[row, place + k], pictures[row, k], tensors)
            torch.testing.assert_close(made[row, place + k], expected, atol=1e-5, rtol=1e-4)
        others = [i for i in range(9) if not place <= i < place + 3]
        assert torch.equal(made[row, others], prompts[row, others])
    averaged = encoder.put(prompts, pictures.mean(1, keepdim=True).expand(-1, 3, -1), places)
    assert (averaged - made).abs().max() > 0.01
    assert not torch.equal(encoder.put(prompts, pictures.flip(1), places), made), "each has its own token"


def test_half_precision_prompts_stay_so(file: PhotoMakerFile) -> None:
    prompts: Any = torch.randn(1, 4, 40).bfloat16()
    assert file.encoder().put(prompts, torch.randn(1, 1, 40), torch.tensor([1])).dtype == torch.bfloat16


def test_the_public_sizes_are_told_by_shapes() -> None:
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
    with torch.device("meta"):
        encoder = IdEncoder(CLIPVisionConfig(**tower, patch_size=14, image_size=224, projection_dim=768), 1280)
    assert encoder.width == 2048
    fuse = 2 * 4096 + (4096 + 1) * 2048 + (2048 + 1) * 2048 + 2 * 2048 + 2 * (2048 + 1) * 2048 + 2 * 2048
    assert sum(p.numel() for p in encoder.fuse_module.parameters()) == fuse
    assert sum(p.numel() for p in encoder.parameters()) == 303_179_776 + 1024 * (768 + 1280) + fuse
    config, second = read_sizes(encoder.state_dict(), None, "here")
    assert {key: getattr(config, key) for key in tower} == tower
    assert (config.patch_size, config.image_size, config.projection_dim, second) == (14, 224, 768, 1280)
