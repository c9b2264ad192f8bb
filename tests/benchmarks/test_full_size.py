"""The benchmark at full size, run on tiny sizes; and what it claims of the full ones, on the meta device."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from benchmarks import full_size
from benchmarks.clock import Took, free_gib, measure, peak_gib, reset_peak
from benchmarks.hypernetwork import Graphed, InType, features, make_transformer, random_corpus, stepper
from benchmarks.sizes import Setup, with_sizes
from difflora.errors import BadParameter, DiffLoRAError
from difflora.models import LoraTransformer
from difflora.stages.params import Params, load_params
from difflora.stages.presets import preset_path
from difflora.training.lae import LaeTask
from difflora.training.rows import LoraRows

CPU = torch.device("cpu")


def _setup(params: Params, **changes: Any) -> Setup:
    values: dict[str, Any] = {"device": CPU, "rounds": 1, "steps": 3, "dreambooth_steps": 2, "people": (1, 2)}
    return Setup(with_sizes(params, 2, "bf16"), **(values | {"compile": False, "command": "me"} | changes))


@pytest.fixture
def tiny(chain_params: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(chain_params))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Runs the command and gives the rows that it wrote."""
    import typer

    app = typer.Typer()
    app.command()(full_size.main)

    def call(*words: str) -> list[dict[str, str]]:
        out = tmp_path / "results"
        result = CliRunner().invoke(app, [*words, "--out", str(out)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        paths = list(out.glob("*.csv"))
        return list(csv.DictReader(paths[0].open())) if paths else []

    return call


def test_every_part_on_tiny_sizes(
    tiny: Path, run: Callable[..., list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **more: real(call, backend="eager", **more))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++")
    sizes = ("--batch", "2", "--steps", "3", "--dreambooth-steps", "2", "--people", "1", "--people", "2", "--compile")
    rows = run(*full_size.PARTS, "--params", str(tiny), "--device", "cpu", *sizes)
    torch.compiler.reset()
    assert [(row["part"], row["method"]) for row in rows] == [
        ("lae", "eager"),
        ("dit", "eager"),
        ("personalize", "eager"),
        ("sample", "eager"),
        ("sample", "torch.compile"),
        *[("dreambooth", "eager")] * 2,
        *[("dreambooth", "regional")] * 2,
    ]
    for row in rows:
        assert float(row["seconds"]) >= float(row["fastest"]) > 0
        assert float(row["peak_gib"]) > float(row["expected_gib"]) > 0, "the process itself comes on top"
        assert "threads; torch" in row["machine"]
        assert row["command"].startswith("python -m benchmarks.full_size lae dit personalize dreambooth --params")
        assert "--batch 2 --rounds 1 --steps 3" in row["command"]
    assert "batch 2, bf16" in rows[0]["case"]
    two = rows[6]
    assert "of 2 at once" in two["case"]
    assert float(two["per_second"]) == pytest.approx(2 / float(two["seconds"]), rel=1e-2)


def test_what_does_not_fit_is_passed_over(
    tiny: Path, run: Callable[..., list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.sizes.free_gib", lambda device: 0.0)
    assert run("lae", "dit", "--params", str(tiny), "--device", "cpu") == []


def test_mistakes_are_named() -> None:
    with pytest.raises(BadParameter, match="no part is called 'vae': give some of lae, dit"):
        full_size.main(["vae"])
    with pytest.raises(BadParameter, match="precision is 'fp8'"):
        full_size.main(["lae"], precision="fp8")


@pytest.mark.timeout(900)
def test_a_step_of_the_papers_models_fits_24_gib_on_a_cpu() -> None:
    setup = _setup(load_params(preset_path("paper")))
    assert setup.layout.size == 5_806_080
    assert setup.expected_gib("lae") < 24
    assert 10 < setup.expected_gib("dit") < 24
    assert setup.params.dit.loop.precision == "bf16"
    assert setup.expected_gib("corpus", 2) > setup.expected_gib("corpus", 1) > 5


def test_a_step_trains_and_a_broken_one_is_no_figure(tiny: Path, tmp_path: Path) -> None:
    setup = _setup(load_params(tiny))
    from benchmarks.hypernetwork import make_lae

    rows, lae = LoraRows(random_corpus(tmp_path / "corpus", setup.layout, 3), "train"), make_lae(setup)
    lae.fit_normalisation(rows)
    before = {name: value.detach().clone() for name, value in lae.named_parameters()}
    step = stepper(LaeTask(lae, rows, setup.params.lae), rows.names, setup.params.lae.loop, CPU)
    step()
    assert any(not torch.equal(value, before[name]) for name, value in lae.named_parameters())
    next(iter(lae.parameters())).data.fill_(float("nan"))
    with pytest.raises(DiffLoRAError, match="step 1 is not finite"):
        step()


def test_rounds_are_timed_after_one_that_warms_up() -> None:
    calls: list[int] = []
    took = measure(lambda: calls.append(1), CPU, 3)
    assert (len(calls), len(took.seconds)) == (4, 3)
    assert Took([3.0, 1.0, 2.0], 0.0).median == 2.0


def test_peak_memory_is_of_what_was_measured() -> None:
    reset_peak(CPU)
    before = peak_gib(CPU)
    held = torch.ones(2**26)  # 256 MiB
    with_it = peak_gib(CPU)
    del held
    reset_peak(CPU)
    assert with_it > before + 0.2
    assert peak_gib(CPU) < with_it - 0.1
    assert free_gib(CPU) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_graph_gives_what_the_network_gives(tiny: Path) -> None:
    device = torch.device("cuda")
    setup = _setup(load_params(tiny), device=device)
    transformer: LoraTransformer = make_transformer(setup, 40).train(False)
    network, (face, image) = InType(transformer, torch.bfloat16), features(1, device)
    latents, timesteps = torch.randn(1, 40, device=device), torch.tensor([7], device=device)
    graphed = Graphed(network, torch.zeros_like(latents), torch.zeros_like(timesteps), face, image)
    with torch.no_grad():
        torch.testing.assert_close(graphed(latents, timesteps, face, image), network(latents, timesteps, face, image))
