"""ImageReward's loader on a small checkpoint with the published keys, against the published arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflora.encoders.image_reward import DEVIATION, MEAN, ImageReward
from difflora.encoders.images import as_arrays
from difflora.errors import BadFile, BadParameter
from tests.image_reward_checkpoint import LAYERS, PATCH, SIDE, image_reward_state, save_image_reward

PROMPTS = ["a photo of a man, smiling", "a woman"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_image_reward(tmp_path)
    return tmp_path


def _published(state: dict[str, Tensor], pixels: Tensor, ids: list[int]) -> float:
    """One picture's score for one prompt, written down from the public code."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (-1, 64)).transpose(0, 1) for x in (q, k, v))  # (heads, L, 64)
        return ((q @ k.transpose(1, 2) / 8).softmax(-1) @ v).transpose(0, 1).flatten(1)

    eyes = "blip.visual_encoder"
    weight, bias = state[f"{eyes}.patch_embed.proj.weight"], state[f"{eyes}.patch_embed.proj.bias"]
    x = F.conv2d(pixels[None], weight, bias, stride=PATCH)[0].flatten(1).T
    x = torch.cat([state[f"{eyes}.cls_token"][0], x]) + state[f"{eyes}.pos_embed"][0]
    for number in range(LAYERS):
        block = f"{eyes}.blocks.{number}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(f"{block}.attn.proj", attend(q, k, v))
        x = x + linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6))))
    seen = norm(f"{eyes}.norm", x, 1e-6)
    words = "blip.text_encoder"
    h = state[f"{words}.embeddings.word_embeddings.weight"][ids]
    h = h + state[f"{words}.embeddings.position_embeddings.weight"][: len(ids)]
    h = norm(f"{words}.embeddings.LayerNorm", h, 1e-12)
    for number in range(LAYERS):
        layer = f"{words}.encoder.layer.{number}"
        for kind in ("attention", "crossattention"):
            other = seen if kind == "crossattention" else h
            parts = (
                linear(f"{layer}.{kind}.self.{name}", y)
                for name, y in zip(("query", "key", "value"), (h, other, other), strict=True)
            )
            out = linear(f"{layer}.{kind}.output.dense", attend(*parts))
            h = norm(f"{layer}.{kind}.output.LayerNorm", out + h, 1e-12)
        out = linear(f"{layer}.output.dense", F.gelu(linear(f"{layer}.intermediate.dense", h)))
        h = norm(f"{layer}.output.LayerNorm", out + h, 1e-12)
    score = h[0]
    for place in (0, 2, 4, 6, 7):
        score = linear(f"mlp.layers.{place}", score)
    return (float(score) - MEAN) / DEVIATION


def test_scores_are_those_of_the_public_code(folder: Path) -> None:
    model = ImageReward(folder, batch_size=2)
    assert model.processor.image_mean == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    images = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    found = model.reward(images, prompts)
    assert found.shape == (3,)
    tokens = {PROMPTS[0]: [2, 5, 6, 7, 5, 8, 11, 10, 3], PROMPTS[1]: [2, 5, 9, 3]}
    pixels = model.processor(images=[one.numpy() for one in as_arrays(images)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 3, SIDE, SIDE)
    expected = [
        _published(image_reward_state(), one, tokens[prompt]) for one, prompt in zip(pixels, prompts, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    assert abs(expected[0] - expected[2]) > 1e-3, "the picture counts"
    swapped = model.reward(images, [PROMPTS[1], PROMPTS[0], PROMPTS[0]])
    assert (swapped - found).abs()[:2].min() > 1e-4, "the prompt counts"


def test_numbers_of_pictures_and_prompts_must_agree(folder: Path) -> None:
    with pytest.raises(BadParameter, match="1 pictures and 2 prompts"):
        ImageReward(folder).reward(torch.rand(1, 3, 32, 32), PROMPTS)


def test_long_prompts_are_cut(folder: Path) -> None:
    assert torch.isfinite(ImageReward(folder).reward(torch.rand(1, 3, 32, 32), ["a photo of a man " * 30])).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("mlp.layers.6.weight"), "holds no ImageReward"),
        (lambda state: state.pop("blip.text_encoder.encoder.layer.1.output.dense.bias"), "1 weights are missing"),
        (
            lambda state: state.update({"blip.visual_encoder.norm.weight": torch.ones(3)}),
            "convert ImageReward.pt again",
        ),
        (lambda state: state.update({"blip.visual_encoder.odd": torch.ones(3)}), "1 are strange, odd"),
        (lambda state: state.update({"clip.odd": torch.ones(3)}), r"clip\.odd is no key of ImageReward"),
        (lambda state: state.clear() or state.update(a=torch.ones(1)), "holds no ImageReward"),
    ],
)
def test_other_weights_are_refused(folder: Path, change: object, said: str) -> None:
    state = dict(load_file(folder / "model.safetensors"))
    change(state)  # type: ignore[operator]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(BadFile, match=said):
        ImageReward(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such folder"):
        ImageReward(tmp_path / "none")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadFile, match="not a readable safetensors file"):
        ImageReward(folder)
    weights.unlink()
    (folder / "ImageReward.pt").write_bytes(b"pickle")
    with pytest.raises(BadFile, match=r"model\.safetensors: no such file"):
        ImageReward(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(BadFile, match=r"vocab\.txt: no such file"):
        ImageReward(folder)
