from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import gather
from difflora.corpus.latents import encode_person
from difflora.corpus.people import no_boxes
from difflora.corpus.settings import DreamBoothSettings
from difflora.cover import box_cover, feature_cover
from difflora.errors import BadFile, BadParameter
from difflora.world.identities import RenderedPeople


def test_latents_and_prompts_are_the_pipelines_own(base: FrozenBase) -> None:
    made = RenderedPeople().candidates("rendered-0-000003", 3, 0)
    captions = [made.captions[0], made.captions[1], made.captions[0]]
    encoded = encode_person(base, "someone", made.images, captions, no_boxes(made.images))
    pipeline = base.pipeline
    pixels = pipeline.image_processor.preprocess(made.images.float() / 255)
    expected = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(encoded.latents, expected, atol=1e-4, rtol=1e-4)
    prompt, _, pooled, _ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False)
    torch.testing.assert_close(encoded.prompt_embeds, prompt)
    torch.testing.assert_close(encoded.pooled_embeds, pooled)
    assert encoded.size == (64, 64)
    assert not encoded.latents.requires_grad
    assert not encoded.prompt_embeds.requires_grad


def test_pictures_are_framed_before_they_are_encoded(base: FrozenBase) -> None:
    made = RenderedPeople().candidates("rendered-0-000003", 2, 0)
    wide = torch.cat([made.images, made.images], dim=3)  # (2, 3, 64, 128)
    boxes = torch.tensor([[32.0, 0, 64, 64], [0, 0, 0, 0]])
    encoded = encode_person(base, "someone", wide, made.captions, boxes, DreamBoothSettings(resolution=32))
    assert encoded.size == (32, 32)
    assert encoded.latents.shape == (2, 4, 8, 8)
    assert encoded.told.tolist() == [[64, 128, 0, 16, 32, 32]] * 2
    assert encoded.covered[0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0], "the face is where it went"
    assert encoded.covered[1].max() == 0
    whole = encode_person(base, "someone", wide, made.captions, no_boxes(wide))
    assert whole.told.tolist() == [[64, 128, 0, 0, 64, 128]] * 2


def test_stable_diffusion_1_has_no_pooled_embeddings(sd15: FrozenBase) -> None:
    made = RenderedPeople().candidates("rendered-0-000003", 2, 0)
    encoded = encode_person(sd15, "someone", made.images, made.captions, no_boxes(made.images))
    assert encoded.pooled_embeds is None
    expected = sd15.pipeline.encode_prompt(made.captions, "cpu", 1, False)[0]
    torch.testing.assert_close(encoded.prompt_embeds, expected)


def test_the_vaes_mean_and_deviation_are_used(base: FrozenBase, monkeypatch: pytest.MonkeyPatch) -> None:
    made = RenderedPeople().candidates("rendered-0-000003", 2, 0)
    plain = encode_person(base, "someone", made.images, made.captions, no_boxes(made.images)).latents
    config: Any = base.pipeline.vae.config
    changed = type(config)({**config, "latents_mean": [1.0, 2, 3, 4], "latents_std": [2.0] * 4})
    monkeypatch.setattr(base.pipeline.vae, "_internal_dict", changed)
    shifted = encode_person(base, "someone", made.images, made.captions, no_boxes(made.images)).latents
    factor = config.scaling_factor
    expected = (plain - factor * torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)) / 2
    torch.testing.assert_close(shifted, expected)


def test_a_place_knows_how_much_of_it_the_face_covers(base: FrozenBase) -> None:
    boxes = torch.tensor([[16.0, 8.0, 36.0, 24.0], [0.0, 0.0, 0.0, 0.0]])
    cover = box_cover(boxes, (64, 64), (8, 8))
    assert cover[0].sum() == 2 * 2.5
    assert cover[0, 1, 2] == 1
    assert cover[0, 1, 4] == 0.5
    assert (cover[0, 3] == 0).all()
    assert (cover[1] == 0).all()
    wide = box_cover(boxes[:1], (32, 64), (8, 4))
    assert wide[0].sum() == 20 * 16 / (16 * 4), "height and width have sides of their own"
    assert wide[0, 2, 1] == 1
    made = RenderedPeople().candidates("rendered-0-000003", 2, 0)
    encoded = encode_person(base, "someone", made.images, made.captions, boxes)
    torch.testing.assert_close(encoded.covered, box_cover(boxes, (64, 64), tuple(encoded.latents.shape[2:])))


def test_a_place_knows_how_near_it_is_to_a_feature(base: FrozenBase) -> None:
    boxes = torch.tensor([[16.0, 8.0, 48.0, 40.0], [0.0, 0.0, 0.0, 0.0]])
    points = torch.tensor([[24.0, 20], [40, 20], [32, 28], [26, 34], [38, 34]]).repeat(2, 1, 1)
    near = feature_cover(points, boxes, (64, 64), (16, 16))  # places of 4 pixels, bells of 4
    assert near[0, 4, 5] == pytest.approx(torch.tensor([-(2.0**2 + 2**2) / 32]).exp().item())
    assert near[0].max() <= 1
    assert near[0, 0].max() < 1e-3
    assert near[1].max() == 0, "no face, no features"
    made = RenderedPeople().candidates("rendered-0-000003", 2, 0)
    places = encode_person(base, "someone", made.images, made.captions, boxes).latents.shape[2:]
    encoded = encode_person(base, "someone", made.images, made.captions, boxes, landmarks=points)
    assert encoded.featured is not None
    torch.testing.assert_close(encoded.featured, feature_cover(points, boxes, (64, 64), (places[0], places[1])))
    settings = DreamBoothSettings(face_weight=2, feature_weight=6)
    weight = gather(base, [encoded], settings).weight[:, 0]
    wanted = 1 + 2 * encoded.covered + 6 * encoded.featured
    torch.testing.assert_close(weight, wanted / wanted.mean((1, 2), keepdim=True))
    blind = encode_person(base, "someone", made.images, made.captions, boxes)
    with pytest.raises(BadParameter, match=r"nobody looked for the features of someone: remove data/people"):
        gather(base, [blind], settings)


def test_bad_pictures_are_named(base: FrozenBase) -> None:
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(BadParameter, match=r"anna: 2 pictures, 1 captions and 2 boxes"):
        encode_person(base, "anna", images, ["a woman"], no_boxes(images))
    with pytest.raises(BadParameter, match=r"anna: pictures are torch.float32"):
        encode_person(base, "anna", images.float(), ["a", "b"], no_boxes(images))


def test_a_base_is_read_from_its_folder(base: FrozenBase, tmp_path: Path) -> None:
    base.pipeline.save_pretrained(tmp_path / "tiny-base")
    read = FrozenBase.open(tmp_path / "tiny-base")
    assert read.name == base.name.model_copy(update={"name": "tiny-base"})
    assert read.is_xl
    assert not any(p.requires_grad for p in read.unet.parameters())
    again = FrozenBase.open(tmp_path / "tiny-base", "another name", precision="bf16")
    assert again.weights == read.weights
    assert again.unet.dtype == torch.bfloat16
    weights = next((tmp_path / "tiny-base" / "unet").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert FrozenBase.open(tmp_path / "tiny-base").weights != read.weights
    weights.write_bytes(data[:100])
    with pytest.raises(BadFile, match="tiny-base"):
        FrozenBase.open(tmp_path / "tiny-base")
    with pytest.raises(BadFile, match="no base model here"):
        FrozenBase.open(tmp_path)


def test_other_kinds_of_prediction_are_refused(base: FrozenBase) -> None:
    pipeline = type(base.pipeline)(**{**base.pipeline.components, "scheduler": FlowMatchEulerDiscreteScheduler()})
    with pytest.raises(BadParameter, match="predicts 'none'"):
        FrozenBase.of(pipeline, "flow", "")
    with pytest.raises(BadParameter, match="Stable Diffusion"):
        FrozenBase.of(object(), "thing", "")
