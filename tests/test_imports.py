from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Who may import whom: a package imports those after it, never those before it.
LAYERS = (
    "plan",
    "stages",
    "study",
    "evaluation",
    "training",
    "inference",
    "models",
    "identities",
    "corpus",
    "weights",
    "photomaker",
    "encoders",
    "lora",
)
ORCHESTRATORS = {"prefect", "mlflow", "dvc"}


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
    return found


def _sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _layer(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "difflora" and len(parts) > 1 else None


def _run(code: str, *path: Path) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["mlflow", "kernels"])
def test_root_folders_are_not_packages(name: str) -> None:
    assert (ROOT / name).is_dir()
    assert not (ROOT / name / "__init__.py").exists()


@pytest.mark.parametrize("name", ["mlflow", "kernels"])
def test_installed_package_wins_over_folder_of_same_name(name: str, tmp_path: Path) -> None:
    # An installed package of that name, found on a path entry after the repository's root.
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("installed = True\n")
    code = f"import sys; assert sys.path[1] == {str(ROOT)!r}, sys.path; import {name}; print({name}.__file__)"
    assert Path(_run(code, ROOT, tmp_path)) == tmp_path / name / "__init__.py"


@pytest.mark.parametrize("name", ["mlflow", "kernels"])
def test_no_code_of_the_repository_is_imported_under_that_name(name: str) -> None:
    code = f"import importlib.util as u\nspec = u.find_spec({name!r})\nprint(spec.origin or '' if spec else '')"
    origin = _run(code, ROOT)
    assert not origin.startswith(str(ROOT / name))


def test_diffusers_finds_its_own_kernels_from_the_root() -> None:
    code = "import diffusers.utils.import_utils as d; import difflora_kernels; print(d.is_kernels_available())"
    try:
        import importlib.metadata

        importlib.metadata.version("kernels")
        expected = "True"
    except importlib.metadata.PackageNotFoundError:
        expected = "False"
    assert _run(code, ROOT, ROOT / "kernels") == expected


@pytest.mark.parametrize("path", _sources("difflora"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    imported = _imports(path)
    place = path.relative_to(ROOT / "difflora").parts[0]
    if place != "stages":
        used = {name.split(".")[0] for name in imported} & ORCHESTRATORS
        assert not used, f"the library imports no {used}"
    if place in LAYERS:
        above = set(LAYERS[: LAYERS.index(place)]) | {"world", "cli"}
        assert not {_layer(name) for name in imported} & above
    if place == "world":
        # The world stands beside the method: only the command line and presets name it. What it trains of the method's
        # own forms (PhotoMaker, the start of LoRAs) is made by the method's lower layers.
        used = {"encoders", "photomaker", "lora", "corpus", "identities"}
        assert not {_layer(name) for name in imported} & (set(LAYERS) - used)
    assert "flows" not in {name.split(".")[0] for name in imported}


def test_only_command_line_names_the_world() -> None:
    for path in _sources("difflora"):
        place = path.relative_to(ROOT / "difflora").parts[0]
        if place not in ("world", "cli.py"):
            assert not any(name.startswith("difflora.world") for name in _imports(path)), path


def test_kernels_need_torch_and_triton_alone() -> None:
    allowed = {"torch", "triton", "difflora_kernels", *sys.stdlib_module_names}
    for path in _sources("kernels/difflora_kernels"):
        assert {name.split(".")[0] for name in _imports(path)} <= allowed, path


def test_command_line_imports_nothing_heavy() -> None:
    code = "import sys, difflora.cli; print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    assert _run(code, ROOT) == "[]"


def test_flows_and_registry_import_nothing_heavy() -> None:
    pytest.importorskip("prefect")
    heavy = "{'torch', 'diffusers', 'transformers', 'mlflow'}"
    code = f"import sys, flows.full, flows.retrain, difflora.stages.registry; print(sorted({heavy} & set(sys.modules)))"
    assert _run(code, ROOT) == "[]"
