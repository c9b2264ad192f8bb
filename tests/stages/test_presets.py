from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

import difflora
from difflora.cli import main
from difflora.errors import BadParameter
from difflora.stages.params import load_params
from difflora.stages.presets import preset_names, preset_path, presets_folder, use_preset

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_repositorys_presets() -> None:
    assert presets_folder() == ROOT / "presets"
    assert preset_names() == ["embedded", "embedded-photomaker", "embedded-style", "paper", "sd15-style", "sdxl"]
    with pytest.raises(BadParameter, match="there are: embedded, embedded-photomaker, embedded-style, paper"):
        preset_path("../params")


def test_an_installed_package_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel holds the folder inside the package, and no repository is beside it."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    included = build["wheel"]["force-include"]
    assert included == {"presets": "difflora/presets"}
    assert "/presets" in build["sdist"]["include"]  # a wheel is built from the source distribution
    site = tmp_path / "site-packages"
    for source, target in included.items():
        shutil.copytree(ROOT / source, site / target)
    monkeypatch.setattr(difflora, "__file__", str(site / "difflora" / "__init__.py"))
    assert presets_folder() == site / "difflora" / "presets"
    assert "sdxl" in preset_names()


def test_use_copies_and_does_not_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "params.yaml"
    use_preset("sdxl", target)
    assert target.read_bytes() == preset_path("sdxl").read_bytes()
    use_preset("sdxl", target)  # the same: nothing to lose
    with pytest.raises(BadParameter, match="differs from preset paper; keep a copy and give --force"):
        use_preset("paper", target)
    assert target.read_bytes() == preset_path("sdxl").read_bytes()
    use_preset("paper", target, force=True)
    assert load_params(target).identities.count == 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("preset", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert all(len(line) > 40 for line in lines)
    assert run("preset", "show", "paper") == 0
    assert capsys.readouterr().out == preset_path("paper").read_text()
    assert run("preset", "use", "sd15-style") == 0
    assert "difflora weights check" in capsys.readouterr().out
    assert run("preset", "use", "sdxl") == 2
    assert "give --force" in capsys.readouterr().err
    assert run("preset", "use", "sdxl", "--force") == 0


def test_the_papers_numbers() -> None:
    params = load_params(preset_path("paper"))
    pictures, lae, dit = params.identities.pictures, params.lae, params.dit
    assert (params.identities.count, pictures.candidates, pictures.keep) == (100_000, 100, 85)
    assert (lae.loop.lr, lae.loop.batch_size, len(lae.model.strides), lae.wp_weight > 0) == (2e-5, 4, 5, True)
    assert (dit.model.layers, dit.model.width, dit.model.prediction_type) == (16, 1454, "sample")
    assert (dit.loop.lr, dit.loop.batch_size, dit.loop.steps) == (1e-4, 32, 1400 * 100_000 // 32)
    assert (dit.noise.num_train_timesteps, dit.noise.beta_start, dit.noise.beta_end) == (1000, 1e-4, 0.012)
    assert not lae.model.linear_path
    assert not dit.model.linear_skip
    assert not dit.effect.enabled
    for name, images in (("paper", 4), ("sdxl", 1)):  # 4.3
        chosen = load_params(preset_path(name)).evaluate
        assert (chosen.people, len(set(chosen.prompts)), chosen.images_per_prompt) == (50, 30, images)
        assert "textual_inversion" in chosen.methods
    assert params.evaluate.num_inference_steps == params.register_.num_inference_steps == 100


def test_the_recommended_ones() -> None:
    params = load_params(preset_path("sdxl"))
    assert (params.corpus.dreambooth.targets, params.corpus.dreambooth.rank) == (("attention",), 4)
    assert (params.dit.model.width, params.dit.model.heads) == (1456, 14)
    style = load_params(preset_path("sd15-style"))
    assert style.dit.model.use_image
    assert not style.dit.model.use_face


@pytest.mark.parametrize("name", preset_names())
def test_sources_are_there_and_take_their_options(name: str) -> None:
    chosen = load_params(preset_path(name)).identities
    module, _, kind = chosen.source.partition(":")
    found = pytest.importorskip(module)
    assert hasattr(found, kind)
    if hasattr(found, "PhotoMakerOptions"):
        options = found.PhotoMakerOptions.model_validate(chosen.options)
        module, _, kind = options.references.source.partition(":")
        assert hasattr(pytest.importorskip(module), kind)
