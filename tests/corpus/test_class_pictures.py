from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.corpus import class_pictures as module
from difflora.corpus.base import FrozenBase
from difflora.corpus.class_pictures import ClassPictures
from difflora.corpus.settings import DreamBoothSettings, PriorPreservation
from difflora.seeds import noise_seed

SIZE = (64, 64)
PRIOR = PriorPreservation(pictures=3, steps=2, guidance_scale=2.0)
SETTINGS = DreamBoothSettings(prior_preservation=PRIOR, seed=9)


def _must_not_draw(*_: object, **__: object) -> None:
    raise AssertionError("drawn again")


def test_they_are_what_the_base_draws_by_itself(base: FrozenBase) -> None:
    made = ClassPictures(None, base, SETTINGS).of("woman", SIZE)
    assert made is not None
    assert made.latents.shape == (3, 4, 16, 16)
    pipeline = base.pipeline
    for place in range(3):
        seed = noise_seed(9, "class", "a photo of a woman", str(place))
        expected = pipeline(
            "a photo of a woman",
            height=64,
            width=64,
            num_inference_steps=2,
            guidance_scale=2.0,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        ).images
        torch.testing.assert_close(made.latents[place : place + 1], expected, atol=2e-4, rtol=1e-3)
    prompt, _, pooled, _ = pipeline.encode_prompt(["a photo of a woman"], do_classifier_free_guidance=False)
    torch.testing.assert_close(made.prompt_embeds, prompt.expand(3, -1, -1))
    torch.testing.assert_close(made.pooled_embeds, pooled.expand(3, -1))


def test_drawn_once_for_all_and_kept_on_the_disk(
    base: FrozenBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = ClassPictures(tmp_path, base, SETTINGS)
    women = first.of("woman", SIZE)
    assert women is not None
    assert first.of("woman", SIZE) is women
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(module, "draw", _must_not_draw)
        again = ClassPictures(tmp_path, base, SETTINGS).of("woman", SIZE)
        assert again is not None
        assert torch.equal(again.latents, women.latents)
        heavier = SETTINGS.model_copy(update={"prior_preservation": PRIOR.model_copy(update={"weight": 0.1})})
        assert ClassPictures(tmp_path, base, heavier).of("woman", SIZE) is not None, "no other pictures"
    path.write_bytes(whole[:-4] + b"\x00\x01\x02\x03")
    with caplog.at_level(logging.WARNING):
        ClassPictures(tmp_path, base, SETTINGS).of("woman", SIZE)
    assert f"{path.name}: was changed" in caplog.text
    assert path.read_bytes() == whole


def test_other_settings_have_pictures_of_their_own(base: FrozenBase, tmp_path: Path) -> None:
    ClassPictures(tmp_path, base, SETTINGS).of("woman", SIZE)
    others = [SETTINGS.model_copy(update={"seed": 10})]
    for change in ({"pictures": 2}, {"steps": 3}, {"prompt": "a portrait of {person}"}):
        others.append(SETTINGS.model_copy(update={"prior_preservation": PRIOR.model_copy(update=change)}))
    for settings in others:
        ClassPictures(tmp_path, base, settings).of("woman", SIZE)
    ClassPictures(tmp_path, base, SETTINGS).of("man", SIZE)
    weights = FrozenBase(base.pipeline, base.scheduler, base.name, "other weights")
    ClassPictures(tmp_path, weights, SETTINGS).of("woman", SIZE)
    assert len(list(tmp_path.iterdir())) == 7


def test_one_prompt_for_all_words_is_drawn_once(base: FrozenBase) -> None:
    prior = PRIOR.model_copy(update={"prompt": "a photo of a person"})
    pictures = ClassPictures(None, base, SETTINGS.model_copy(update={"prior_preservation": prior}))
    assert pictures.of("man", SIZE) is pictures.of("woman", SIZE)
    assert ClassPictures(None, base, DreamBoothSettings()).of("man", SIZE) is None


def test_a_base_in_bfloat16(make_pipeline: Callable[[], Any]) -> None:
    half = FrozenBase.of(make_pipeline(), "tiny", "tiny weights", precision="bf16")
    made = ClassPictures(None, half, SETTINGS.model_copy(update={"precision": "bf16"})).of("man", SIZE)
    assert made is not None
    assert (made.latents.dtype, made.prompt_embeds.dtype) == (torch.float32, torch.bfloat16)
    assert made.latents.isfinite().all()
