"""The pipeline from a picture to a LoRA file, with the embedded face pack and a tiny CLIP."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.whole import WholePictureEncoder
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.lora import LoraWeights
from difflora.models import DiffLoRAPipeline, NoiseSettings, make_scheduler
from difflora.models.sampling import mean_feature
from difflora.world.pool import fresh_pool

PACK = Path(__file__).resolve().parents[2] / "assets" / "embedded" / "insightface"
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 12,
}


@pytest.fixture(scope="module")
def face_encoder() -> InsightFaceEncoder:
    return InsightFaceEncoder(PACK, "world", det_size=(128, 128))


@pytest.fixture(scope="module")
def image_encoder(tmp_path_factory: pytest.TempPathFactory) -> CLIPImageEncoder:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder)
    return CLIPImageEncoder(folder)


@pytest.fixture(scope="module")
def people() -> list[Image.Image]:
    """Pictures of three people whose face is found."""
    pictures = fresh_pool(4, 2, 11).images.permute(0, 2, 3, 1).numpy()
    encoder = InsightFaceEncoder(PACK, "world", det_size=(128, 128))
    found = encoder.encode(list(pictures)).counts
    return [Image.fromarray(pictures[i]) for i in np.flatnonzero(found == 1)[:3]]


@pytest.fixture
def pipe(
    make_lae: Callable[..., Any],
    make_dit: Callable[..., Any],
    rows: torch.Tensor,
    face_encoder: InsightFaceEncoder,
    image_encoder: CLIPImageEncoder,
) -> DiffLoRAPipeline:
    lae = make_lae()
    lae.fit_normalisation([rows])
    lae.fit_latents([rows])
    transformer = make_dit(face=face_encoder.dimension, image=12, linear_skip=True)
    transformer.register_to_config(face_encoder=face_encoder.digest, image_encoder=image_encoder.digest)
    pipe = DiffLoRAPipeline(
        lae,
        transformer,
        make_scheduler(NoiseSettings(), "sample"),
        face_encoder,
        image_encoder,
        num_inference_steps=4,
        strength=1.25,
        scale=0.9,
        version="7",
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _seed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_callback_follows_the_denoising_as_in_diffusers(pipe: DiffLoRAPipeline, people: list[Image.Image]) -> None:
    seen: list[tuple[int, torch.Tensor]] = []

    def watch(told: Any, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert told is pipe
        seen.append((step, tensors["latents"]))
        return tensors

    made = pipe(people[0], generator=_seed(3), callback_on_step_end=watch).lora
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    with torch.no_grad():
        assert torch.equal(pipe.lae.decode(seen[-1][1], 1.25)[0], made.flat)
    assert torch.equal(pipe(people[0], generator=_seed(3)).lora.flat, made.flat)


def test_a_picture_becomes_a_lora_with_its_provenance(
    pipe: DiffLoRAPipeline, people: list[Image.Image], tmp_path: Path
) -> None:
    output = pipe(people[0], generator=_seed(3))
    lora = output.lora
    assert (lora.layout, lora.base, lora.alpha) == (pipe.lae.layout, pipe.lae.base, 4.0)
    assert (lora.scale, lora.trigger_prompt) == (0.9, "a photo of sks")
    assert {**lora.provenance, "reference_sha256": ""} == {
        "model": "7",
        "seed": "3",
        "sampler": "DDIMScheduler",
        "references": "1",
        "reference_sha256": "",
        "num_inference_steps": "4",
        "guidance_scale": "1.0",
        "strength": "1.25",
    }
    assert set(output.seconds) == {"encode", "sample", "decode", "total"}
    assert output.seconds["total"] == pytest.approx(sum(v for k, v in output.seconds.items() if k != "total"))
    lora.save(tmp_path / "me.safetensors")
    assert LoraWeights.load(tmp_path / "me.safetensors", pipe.lae.layout).provenance == lora.provenance


def test_path_bytes_and_picture_are_the_same(pipe: DiffLoRAPipeline, people: list[Image.Image], tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(_png(people[0]))
    expected = pipe(people[0], generator=_seed()).lora.flat
    for source in (tmp_path / "me.png", str(tmp_path / "me.png"), _png(people[0]), [people[0]]):
        assert torch.equal(pipe(source, generator=_seed()).lora.flat, expected)
    assert not torch.equal(pipe(people[0], generator=_seed(1)).lora.flat, expected)
    assert not torch.equal(pipe(people[1], generator=_seed()).lora.flat, expected)


def test_several_references_are_averaged(pipe: DiffLoRAPipeline, people: list[Image.Image]) -> None:
    face, image = pipe.embed(people)
    mean = face.mean(0) / face.mean(0).norm()
    torch.testing.assert_close(mean_feature(face)[0], mean)
    flat, _ = pipe.generate(mean[None], mean_feature(image), generator=_seed())
    made = pipe(people, generator=_seed())
    torch.testing.assert_close(made.lora.flat, flat[0], atol=1e-6, rtol=1e-4)
    assert made.lora.provenance["references"] == "3"


def test_strength_guidance_and_steps_are_followed(pipe: DiffLoRAPipeline, people: list[Image.Image]) -> None:
    mean = pipe.lae.mean
    once = pipe(people[0], generator=_seed(), strength=1.0).lora.flat
    twice = pipe(people[0], generator=_seed(), strength=2.0).lora.flat
    torch.testing.assert_close(twice - mean, 2 * (once - mean), atol=1e-6, rtol=1e-4)
    default = pipe(people[0], generator=_seed()).lora.flat
    torch.testing.assert_close(default - mean, 1.25 * (once - mean), atol=1e-6, rtol=1e-4)
    assert not torch.allclose(pipe(people[0], generator=_seed(), guidance_scale=3.0).lora.flat, default)
    assert not torch.allclose(pipe(people[0], 2, generator=_seed()).lora.flat, default)
    scaled = pipe(people[0], generator=_seed(), scale=0.5).lora
    assert scaled.scale == 0.5
    assert torch.equal(scaled.flat, default), "a recommendation, no change of the weights"


def test_without_a_generator_the_provenance_tells_the_seed(pipe: DiffLoRAPipeline, people: list[Image.Image]) -> None:
    first, second = pipe(people[0]).lora, pipe(people[0]).lora
    assert first.provenance["seed"] != second.provenance["seed"]
    again = pipe(people[0], generator=_seed(int(first.provenance["seed"]))).lora
    assert torch.equal(again.flat, first.flat)


def test_saved_and_loaded_it_makes_the_same_lora(
    pipe: DiffLoRAPipeline, people: list[Image.Image], tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = DiffLoRAPipeline.from_pretrained(tmp_path / "pipe")
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.scheduler, DDIMScheduler)
    assert loaded.config.num_inference_steps == 4
    assert set(loaded.components) == {"lae", "transformer", "scheduler"}
    expected, made = pipe(people[0], generator=_seed()).lora, loaded(people[0], generator=_seed()).lora
    assert torch.equal(made.flat, expected.flat)
    assert made.provenance == expected.provenance
    loaded.save_pretrained(tmp_path / "again")
    files = {path.relative_to(tmp_path / "pipe") for path in (tmp_path / "pipe").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()}
    for path in files:
        assert (tmp_path / "again" / path).read_bytes() == (tmp_path / "pipe" / path).read_bytes(), path
    assert str(tmp_path) not in "".join(p.read_text() for p in (tmp_path / "again").rglob("*.json"))


def test_dpm_solver_takes_the_schedulers_place(
    pipe: DiffLoRAPipeline, people: list[Image.Image], tmp_path: Path
) -> None:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    made = pipe(people[0], generator=_seed()).lora
    assert made.provenance["sampler"] == "DPMSolverMultistepScheduler"
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = DiffLoRAPipeline.from_pretrained(tmp_path / "pipe")
    assert torch.equal(loaded(people[0], generator=_seed()).lora.flat, made.flat)


def test_encoders_may_stay_outside_but_must_be_the_same(
    pipe: DiffLoRAPipeline, people: list[Image.Image], image_encoder: CLIPImageEncoder, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "pipe", encoders=False)
    assert not list((tmp_path / "pipe").rglob("*.onnx"))
    bare = DiffLoRAPipeline.from_pretrained(tmp_path / "pipe")
    with pytest.raises(BadParameter, match="has no encoders"):
        bare(people[0])
    given = DiffLoRAPipeline.from_pretrained(
        tmp_path / "pipe", face_encoder=pipe.face_encoder, image_encoder=image_encoder
    )
    assert torch.equal(given(people[0], generator=_seed()).lora.flat, pipe(people[0], generator=_seed()).lora.flat)
    torch.manual_seed(5)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path / "other")
    with pytest.raises(BadParameter, match="image_encoder is not the one that the transformer was trained with"):
        DiffLoRAPipeline.from_pretrained(tmp_path / "pipe", image_encoder=CLIPImageEncoder(tmp_path / "other"))


def test_parts_that_were_not_made_for_each_other(
    make_lae: Callable[..., Any], make_dit: Callable[..., Any], image_encoder: CLIPImageEncoder
) -> None:
    scheduler = make_scheduler(NoiseSettings(), "sample")
    with pytest.raises(BadParameter, match="latents of 24, the autoencoder 20"):
        DiffLoRAPipeline(make_lae(), make_dit(size=24), scheduler)
    with pytest.raises(BadParameter, match="prediction_type is epsilon, the transformer's sample"):
        DiffLoRAPipeline(make_lae(), make_dit(), make_scheduler(NoiseSettings(), "epsilon"))
    with pytest.raises(BadParameter, match="image_encoder gives 12 numbers, the transformer takes 3"):
        DiffLoRAPipeline(make_lae(), make_dit(), scheduler, image_encoder=image_encoder)
    with pytest.raises(BadParameter, match="clip_sample is on"):
        DiffLoRAPipeline(make_lae(), make_dit(), DDIMScheduler(prediction_type="sample"))


def test_damaged_pipelines_are_named(pipe: DiffLoRAPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "pipe"
    with pytest.raises(BadFile, match="no such folder"):
        DiffLoRAPipeline.from_pretrained(folder)
    pipe.save_pretrained(folder)
    with pytest.raises(BadParameter, match="colour"):
        DiffLoRAPipeline.from_pretrained(folder, colour="red")
    onnx = next(folder.rglob("*.onnx"))
    stored = onnx.read_bytes()
    changed = json.loads((folder / "encoders.json").read_text())
    changed["face"]["sha256"] = "0" * 64
    (folder / "encoders.json").write_text(json.dumps(changed))
    with pytest.raises(BadFile, match="not the encoder that was stored"):
        DiffLoRAPipeline.from_pretrained(folder)
    onnx.write_bytes(stored[: len(stored) // 2])
    with pytest.raises(BadFile, match="not a readable face pack"):
        DiffLoRAPipeline.from_pretrained(folder)
    pipe.save_pretrained(folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadFile, match=r"transformer/diffusion_pytorch_model\.safetensors: no such file"):
        DiffLoRAPipeline.from_pretrained(folder)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(BadFile, match="is of a StableDiffusionPipeline"):
        DiffLoRAPipeline.from_pretrained(folder)


def test_bad_pictures_are_named(
    pipe: DiffLoRAPipeline, people: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Image.new("RGB", (64, 64), (90, 120, 150))
    whole = _png(people[0])
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.jpg").write_text("no picture at all")
    bitmap = io.BytesIO()
    people[0].save(bitmap, "BMP")
    for source, words in (
        (tmp_path / "nowhere.jpg", "nowhere.jpg: no such file"),
        (tmp_path / "cut.png", "cut.png: not a whole JPEG, PNG or WebP"),
        (tmp_path / "words.jpg", "words.jpg: not a whole JPEG, PNG or WebP"),
        (bitmap.getvalue(), "picture 0: not a whole JPEG, PNG or WebP"),
        (Image.new("RGB", (8, 8)), "the least is 16"),
        ([people[0], empty], "picture 1: 0 faces found"),
        ([], "no picture was given"),
    ):
        with pytest.raises(BadImage, match=words):
            pipe(source)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadImage, match="too many pixels"):
        pipe(whole)


def test_the_largest_of_several_faces_or_an_error(pipe: DiffLoRAPipeline, people: list[Image.Image]) -> None:
    both = Image.new("RGB", (192, 128), (90, 120, 150))
    both.paste(people[0], (0, 32))
    both.paste(people[1].resize((128, 128)), (64, 0))
    assert pipe.face_encoder is not None
    if pipe.face_encoder.encode([both]).counts[0] != 2:
        pytest.fail("the two faces of this picture are no longer both found; choose others")
    assert pipe(both, generator=_seed()).lora.flat.isfinite().all()
    with pytest.raises(BadImage, match="picture 0: 2 faces found"):
        pipe(both, several_faces="error")
    with pytest.raises(BadParameter, match="several_faces is 'all'"):
        pipe(both, several_faces="all")  # type: ignore[arg-type]


def test_whole_pictures_stand_for_faces(
    pipe: DiffLoRAPipeline, image_encoder: CLIPImageEncoder, make_dit: Callable[..., Any], tmp_path: Path
) -> None:
    whole = WholePictureEncoder(image_encoder)
    transformer = make_dit(face=12, image=12, linear_skip=True)
    transformer.register_to_config(face_encoder=whole.digest, image_encoder=image_encoder.digest)
    pipe = DiffLoRAPipeline(pipe.lae, transformer, pipe.scheduler, whole, image_encoder)
    pipe.set_progress_bar_config(disable=True)
    faceless = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    made = pipe(faceless, 2, generator=_seed()).lora.flat
    pipe.save_pretrained(tmp_path / "all")
    assert not (tmp_path / "all" / "face_encoder").exists(), "its files are the image encoder's"
    again = DiffLoRAPipeline.from_pretrained(tmp_path / "all")
    again.set_progress_bar_config(disable=True)
    assert torch.equal(again(faceless, 2, generator=_seed()).lora.flat, made)
    pipe.save_pretrained(tmp_path / "bare", encoders=False)
    given = DiffLoRAPipeline.from_pretrained(tmp_path / "bare", image_encoder=image_encoder)
    given.set_progress_bar_config(disable=True)
    assert torch.equal(given(faceless, 2, generator=_seed()).lora.flat, made)


def test_an_encoder_of_whole_pictures_of_its_own_is_stored_too(
    pipe: DiffLoRAPipeline, image_encoder: CLIPImageEncoder, make_dit: Callable[..., Any], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path / "other")
    whole = WholePictureEncoder(CLIPImageEncoder(tmp_path / "other"))
    transformer = make_dit(face=12, image=12)
    transformer.register_to_config(face_encoder=whole.digest, image_encoder=image_encoder.digest)
    DiffLoRAPipeline(pipe.lae, transformer, pipe.scheduler, whole, image_encoder).save_pretrained(tmp_path / "made")
    again = DiffLoRAPipeline.from_pretrained(tmp_path / "made")
    assert again.face_encoder is not None
    assert again.image_encoder is not None
    assert (again.face_encoder.digest, again.image_encoder.digest) == (whole.digest, image_encoder.digest)
    weights = tmp_path / "made" / "face_encoder" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadFile, match="is not the encoder that was stored"):
        DiffLoRAPipeline.from_pretrained(tmp_path / "made")
