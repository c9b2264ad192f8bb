"""From a photograph on disk to a LoRA file to pictures, by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from difflora.cli import main
from difflora.corpus.base import FrozenBase
from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.images import CLIPImageEncoder
from difflora.inference import commands
from difflora.lora import LoraLayout, LoraWeights, NormalisationSettings
from difflora.models import (
    DiffLoRAPipeline,
    DitModelSettings,
    LaeModelSettings,
    LoraAutoencoder,
    LoraTransformer,
    NoiseSettings,
    make_scheduler,
)
from difflora.world.identities import RenderedPeople

PACKS = Path(__file__).parents[2] / "assets" / "embedded" / "insightface"
PROMPT = "a photo of {person} smiling, on a beach"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "me.jpg"
    source = RenderedPeople(seed=3)
    image = source.candidates(source.ids(1)[0], 1, 0).images[0]
    Image.fromarray(image.permute(1, 2, 0).numpy()).resize((256, 256)).save(path, quality=95)
    return path


@pytest.fixture(scope="module")
def model(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained hypernetwork for the tiny base; its mean LoRA is one that is seen."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vision: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "projection_dim": 12}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)).save_pretrained(folder / "clip")
    faces, images = InsightFaceEncoder(PACKS, "world", det_size=(128, 128)), CLIPImageEncoder(folder / "clip")
    base = FrozenBase.open(base_folder, "tiny")
    layout = LoraLayout.from_unet(base.unet, ["attention"], 2)
    lae = LoraAutoencoder.build(
        layout,
        LaeModelSettings(linear_path=True, networks=False, strides=(64,), channels=(4,), latent_channels=1),
        NormalisationSettings(),
        base=base.name,
    ).train(False)
    rows = 0.2 * torch.randn(6, layout.size)
    lae.fit_normalisation([rows])
    lae.linear.start_from(lae.normalisation.apply(rows))
    lae.fit_latents([rows])
    settings = DitModelSettings(num_tokens=4, width=16, heads=2, layers=1, linear_skip=True)
    transformer: LoraTransformer = LoraTransformer(
        latent_size=lae.latent_size,
        face_dim=faces.dimension,
        image_dim=images.dimension,
        settings=settings.model_dump(mode="json"),
        face_encoder=faces.digest,
        image_encoder=images.digest,
    ).train(False)
    DiffLoRAPipeline(
        lae, transformer, make_scheduler(NoiseSettings(), "sample"), faces, images, num_inference_steps=3, version="7"
    ).save_pretrained(folder / "model")
    return folder / "model"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(one) for one in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_from_a_photograph_to_pictures(photo: Path, model: Path, base_folder: Path, tmp_path: Path) -> None:
    me, other = tmp_path / "me.safetensors", tmp_path / "again.safetensors"
    assert run("personalize", photo, "-o", me, "--model", model, "--seed", 4, "--scale", 0.9) == 0
    assert run("personalize", photo, "-o", other, "--model", model, "--seed", 4, "--scale", 0.9) == 0
    assert me.read_bytes() == other.read_bytes()
    lora = LoraWeights.load(me)
    assert lora.base is not None
    assert (lora.base.name, lora.scale, lora.provenance["seed"]) == ("tiny", 0.9, "4")
    draw = ("generate", "a photo of a man smiling", "--lora", me, "--base", base_folder, "--steps", 2)
    assert run(*draw, "-o", tmp_path / "me.png", "--n", 2) == 0
    assert run(*draw, "-o", tmp_path / "none.png", "--n", 2, "--scale", 0) == 0
    with Image.open(tmp_path / "me.png") as picture:
        assert picture.size[0] > 2 * 128
    assert (tmp_path / "me.png").read_bytes() != (tmp_path / "none.png").read_bytes()
    out = tmp_path / "grid.png"
    assert run("compare", photo, "-o", out, "--model", model, "--base", base_folder, "--prompt", PROMPT) == 0
    with Image.open(out) as picture:
        assert picture.height > 2 * 128, "the base's row and the person's"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["personalize", "none.jpg", "-o", "me.safetensors", "--model", "MODEL"], "none.jpg: no such file"),
        (["personalize", "PHOTO", "-o", "me.bin", "--model", "MODEL"], "me.bin: give the name of a .safetensors"),
        (["personalize", "PHOTO", "-o", "me.safetensors", "--model", "nowhere"], "nowhere: no such folder"),
        (["personalize", "PHOTO", "-o", "me.safetensors", "--model", "MODEL", "--seed", "-1"], "seed is -1"),
        (["personalize", "PHOTO", "-o", "me.safetensors", "--model", "MODEL", "--steps", "0"], "num_inference_steps"),
        (["personalize", "PHOTO", "-o", "me.safetensors", "--model", "MODEL", "--scale", "-1"], "scale is -1"),
        (["generate", " ", "--lora", "me.safetensors", "-o", "x.png"], "say what to draw"),
        (["generate", "a man", "--lora", "none.safetensors", "-o", "x.png"], "none.safetensors: no such file"),
        (["generate", "a man", "--lora", "me.safetensors", "-o", "x.jpg"], "x.jpg: give the name of a .png"),
        (["compare", "none.jpg", "-o", "x.png", "--model", "MODEL"], "none.jpg: no such file"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(
    arguments: list[str],
    said: str,
    photo: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"PHOTO": str(photo), "MODEL": str(model)}
    assert run(*(known.get(word, word) for word in arguments)) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["personalize", "compare"])
def test_a_picture_without_a_face_is_named(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (128, 128), "grey").save(tmp_path / "wall.png")
    out = tmp_path / ("me.safetensors" if command == "personalize" else "me.png")
    assert run(command, tmp_path / "wall.png", "-o", out, "--model", model) == 2
    assert f"{tmp_path / 'wall.png'}: 0 faces found" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("known", "words", "drawn"),
    [("", (), "a person"), ("woman", (), "a woman"), ("man, woman", ("--class-word", "actor"), "an actor")],
)
def test_the_model_says_what_to_call_the_person(
    known: str,
    words: tuple[str, ...],
    drawn: str,
    photo: Path,
    model: Path,
    base_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    DiffLoRAPipeline.from_pretrained(model, class_words=known).save_pretrained(tmp_path / "model")
    call = ("compare", photo, "-o", tmp_path / "x.png", "--model", tmp_path / "model", "--base", base_folder)
    assert run(*call, "--prompt", PROMPT, "--steps", 1, *words) == 0
    assert f"x.png: a photo of {drawn} smiling" in capsys.readouterr().out


def test_among_several_words_the_user_chooses(
    photo: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    DiffLoRAPipeline.from_pretrained(model, class_words="man, woman").save_pretrained(tmp_path / "model")
    assert run("compare", photo, "-o", tmp_path / "x.png", "--model", tmp_path / "model") == 2
    assert "--class-word: say what to call the person; the model learnt from man, woman" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda text, default: f"{text}, {default}")
    assert commands._class_word("man, woman") == "The person in the photograph is a (man/woman), man"


def test_a_lora_for_another_base_is_refused(
    lora: LoraWeights, base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lora.base is not None
    other = lora.base.model_copy(update={"config_sha256": "0" * 64})
    LoraWeights(lora.layout, lora.flat, other, lora.alpha).save(tmp_path / "me.safetensors")
    words = ("generate", "a man", "--lora", tmp_path / "me.safetensors", "-o", tmp_path / "x.png")
    assert run(*words, "--base", base_folder) == 2
    assert "give the base model that the LoRA was made for" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["personalize", "generate", "compare", "stage", "figures"])
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"Example: difflora {command}" in capsys.readouterr().out
