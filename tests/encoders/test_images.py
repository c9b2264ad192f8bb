"""Picture encoders over small folders of the real libraries' own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from difflora.encoders.images import CLIPImageEncoder, DinoEncoder, as_pictures
from difflora.errors import BadFile, BadImage

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
# The processor files of openai/clip-vit-large-patch14, facebook/dinov2-base and facebook/dino-vits16, at 32 pixels.
COMMON = {
    "do_resize": True,
    "do_normalize": True,
    "resample": 3,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.2],
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "clip": COMMON
    | {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "do_center_crop": True},
    "dinov2": COMMON
    | {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 36},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "do_convert_rgb": True,
    },
    "vit": COMMON | {"feature_extractor_type": "ViTFeatureExtractor", "size": 32},
}


def _folder(root: Path, kind: str) -> Path:
    torch.manual_seed(0)
    folder = root / kind
    if kind == "clip":
        text = {**VISION, "vocab_size": 20, "max_position_embeddings": 8}
        del text["image_size"], text["patch_size"]
        CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)).save_pretrained(folder)
    elif kind == "clip_vision_model":
        CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=12)).save_pretrained(folder)
    elif kind == "dinov2":
        Dinov2Model(Dinov2Config(**VISION)).save_pretrained(folder)
    else:
        ViTModel(ViTConfig(**VISION), add_pooling_layer=True).save_pretrained(folder)
    if kind in PROCESSORS:
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    return folder


def _pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (48, 40, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.mark.parametrize(("kind", "size"), [("clip", 12), ("clip_vision_model", 12), ("dinov2", 16), ("vit", 16)])
def test_features_are_unit_and_do_not_depend_on_the_batch(tmp_path: Path, kind: str, size: int) -> None:
    encoder_type = CLIPImageEncoder if kind.startswith("clip") else DinoEncoder
    encoder = encoder_type(_folder(tmp_path, kind), batch_size=2)
    pictures = _pictures()
    features = encoder(pictures)
    assert features.shape == (3, encoder.dimension) == (3, size)
    assert features.dtype == torch.float32
    assert torch.allclose(features.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.allclose(encoder(pictures[2:]), features[2:], atol=1e-5)
    assert torch.allclose(encoder([np.asarray(p) for p in pictures]), features, atol=1e-5)
    assert torch.allclose(encoder([torch.from_numpy(np.array(p)) for p in pictures]), features, atol=1e-5)
    assert encoder([]).shape == (0, size)


def test_clip_features_are_those_of_the_whole_model(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "clip")
    encoder, model = CLIPImageEncoder(folder), CLIPModel.from_pretrained(folder)
    model.train(False)
    pixels = encoder.processor(images=_pictures(), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 3, 32, 32)
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixels).pooler_output)
    assert torch.allclose(encoder(_pictures()), expected / expected.norm(dim=-1, keepdim=True), atol=1e-5)


def test_half_precision_folders_compute_in_single(tmp_path: Path) -> None:
    folder = tmp_path / "half"
    model = ViTModel(ViTConfig(**VISION), add_pooling_layer=False)
    model.to(torch.float16)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    assert DinoEncoder(folder)(_pictures()).dtype == torch.float32


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="'vit', not CLIP's"):
        CLIPImageEncoder(_folder(tmp_path, "vit"))
    with pytest.raises(BadFile, match="'clip'; give a vit or dinov2 folder"):
        DinoEncoder(_folder(tmp_path, "clip"))


def test_faulty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none: no such folder"):
        DinoEncoder(tmp_path / "none")
    folder = _folder(tmp_path, "vit")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file({k: v for k, v in tensors.items() if "layernorm.weight" not in k}, weights, {"format": "pt"})
    with pytest.raises(BadFile, match=r"missing or of another shape: .*layernorm"):
        DinoEncoder(folder)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadFile, match="not a whole safetensors file"):
        DinoEncoder(folder)
    (folder / "preprocessor_config.json").unlink()
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(BadFile, match="cannot be loaded"):
        DinoEncoder(folder)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(bad: Any) -> None:
    with pytest.raises(BadImage, match=r"image 1: .*give \(H, W, 3\) uint8"):
        as_pictures([Image.new("L", (4, 4)), bad])


def test_grey_and_transparent_pictures_become_rgb() -> None:
    assert [p.mode for p in as_pictures([Image.new("L", (4, 4)), Image.new("RGBA", (4, 4))])] == ["RGB", "RGB"]
