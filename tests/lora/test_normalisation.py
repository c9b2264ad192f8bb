from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from difflora.errors import BadFile, BadParameter
from difflora.lora import LoraLayout, LoraModule, Normalisation, NormalisationSettings

LAYOUT = LoraLayout((LoraModule("a", 5, 7), LoraModule("b", 3, 2, (3, 3)), LoraModule("c", 4, 4)), 2)
ALL = [
    NormalisationSettings(mode=mode, subtract_mean=mean) for mode in ("none", "module", "element") for mean in (0, 1)
]


@pytest.fixture
def rows() -> torch.Tensor:
    """Very different scales, an offset, one constant element, one module that is zero."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, LAYOUT.size, generator=generator) * torch.logspace(-4, 1, LAYOUT.size)
    rows += torch.randn(LAYOUT.size, generator=generator)
    rows[:, 0] = 0.1
    rows[:, LAYOUT.slices["c"]] = 0
    return rows


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_apply_and_back(rows: torch.Tensor, settings: NormalisationSettings) -> None:
    normalisation = Normalisation.fit([rows], LAYOUT, settings)
    made = normalisation.apply(rows)
    assert torch.isfinite(made).all()
    torch.testing.assert_close(normalisation.invert(made), rows, rtol=1e-5, atol=1e-6)
    # Also what the corpus never showed comes back, and does not explode.
    other = rows[:2] + 0.5
    assert torch.isfinite(normalisation.apply(other)).all()
    torch.testing.assert_close(normalisation.invert(normalisation.apply(other)), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_numbers_are_the_definition(rows: torch.Tensor, settings: NormalisationSettings) -> None:
    made = Normalisation.fit([rows], LAYOUT, settings).apply(rows).double()
    if settings.subtract_mean:
        assert made.mean(0).abs().max() < 2e-3  # the mean is float32, spreads go down to 1e-4 of it
    squares = made.square().mean(0)
    if settings.mode == "element":
        constant = torch.zeros(LAYOUT.size, dtype=torch.bool)
        constant[LAYOUT.slices["c"]] = True
        constant[0] = settings.subtract_mean
        torch.testing.assert_close(squares[~constant], torch.ones_like(squares[~constant]), rtol=1e-4, atol=0)
        assert made[:, constant].abs().max() < 1e-6
    if settings.mode == "module":
        parts = torch.stack([part.mean() for part in squares.split(LAYOUT.sizes)])
        torch.testing.assert_close(parts[:4], torch.ones(4).double(), rtol=1e-4, atol=0)
        assert not parts[4:].any()
    if settings.mode == "none":
        expected = rows - rows.mean(0) if settings.subtract_mean else rows
        torch.testing.assert_close(made.float(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_batches_do_not_matter(
    rows: torch.Tensor, settings: NormalisationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Normalisation.fit([rows], LAYOUT, settings)
    parts = Normalisation.fit((part for part in (rows[:1], rows[1], rows[2:30], rows[30:])), LAYOUT, settings)
    monkeypatch.setattr("difflora.lora.normalisation._NUMBERS_AT_ONCE", 3 * LAYOUT.size)
    streamed = Normalisation.fit([rows], LAYOUT, settings)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(parts.tensors()[name], tensor)
        torch.testing.assert_close(streamed.tensors()[name], tensor)


def test_constants_of_inexact_value_are_constant() -> None:
    rows = torch.full((999, LAYOUT.size), 0.1)
    normalisation = Normalisation.fit(rows.split(7), LAYOUT, NormalisationSettings(mode="element"))
    assert normalisation.spread is not None
    assert (normalisation.spread == 1).all()


def test_a_large_offset_keeps_the_spread() -> None:
    rows = torch.randn(500, LAYOUT.size, generator=torch.Generator().manual_seed(3)).double() + 1e3
    normalisation = Normalisation.fit(rows.split(1), LAYOUT, NormalisationSettings(mode="element"))
    torch.testing.assert_close(normalisation.spread, rows.std(0, correction=0).float())


def test_float16_rows_and_leading_dimensions(rows: torch.Tensor) -> None:
    normalisation = Normalisation.fit([rows.half()], LAYOUT, NormalisationSettings())
    made = normalisation.apply(rows.half().view(4, 10, -1))
    assert made.shape == (4, 10, LAYOUT.size)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made[1, 3], normalisation.apply(rows.half()[13]))


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_stored_and_read(rows: torch.Tensor, settings: NormalisationSettings, tmp_path: Path) -> None:
    normalisation = Normalisation.fit([rows], LAYOUT, settings)
    tensors = normalisation.tensors()
    if tensors:
        save_file(tensors, tmp_path / "model.safetensors")
        tensors = load_file(tmp_path / "model.safetensors")
    again = Normalisation.from_tensors(
        tensors, LAYOUT, NormalisationSettings.model_validate_json(settings.model_dump_json())
    )
    assert torch.equal(again.apply(rows), normalisation.apply(rows))
    assert torch.equal(again.to("cpu").invert(rows), normalisation.invert(rows))


def test_bad_statistics_are_named(rows: torch.Tensor) -> None:
    settings = NormalisationSettings()
    good = Normalisation.fit([rows], LAYOUT, settings).tensors()
    for change, message in [
        ({"mean": good["mean"][1:]}, r"m\.json: mean is"),
        ({"spread": good["spread"].int()}, "spread is torch.int32"),
        ({"spread": good["spread"] * 0}, "not positive"),
        ({"mean": good["mean"] * torch.inf}, "mean holds numbers that are not finite"),
        ({"more": good["mean"]}, r"holds \['mean', 'more', 'spread'\] where its settings ask for \['mean', 'spread'\]"),
    ]:
        with pytest.raises(BadFile, match=message):
            Normalisation.from_tensors(good | change, LAYOUT, settings, "m.json")
    with pytest.raises(BadFile, match="ask for"):
        Normalisation.from_tensors({}, LAYOUT, settings)


def test_bad_rows_and_settings(rows: torch.Tensor) -> None:
    settings = NormalisationSettings()
    with pytest.raises(BadParameter, match="no rows"):
        Normalisation.fit([], LAYOUT, settings)
    with pytest.raises(BadParameter, match=str(LAYOUT.size)):
        Normalisation.fit([rows[:, 1:]], LAYOUT, settings)
    with pytest.raises(BadParameter, match=r"batch 1 .* not finite"):
        Normalisation.fit([rows, rows * torch.nan], LAYOUT, settings)
    with pytest.raises(BadParameter, match=str(LAYOUT.size)):
        Normalisation.fit([rows], LAYOUT, settings).apply(rows[:, 1:])
    with pytest.raises(ValidationError):
        NormalisationSettings(mode="layer")
