"""What every test shares: one thread each, since pytest-xdist already fills the cores, and Triton's interpreter.

No test tracks its runs unless it asks for it.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

torch.set_num_threads(1)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported, which any test's import may do
os.environ["DIFFLORA_TRACKING"] = "off"

ROOT = Path(__file__).parents[1]
_LOOP = {"steps": 4, "batch_size": 4, "warmup_steps": 1, "log_every": 2, "save_every": 2}


@pytest.fixture(scope="session")
def chain_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model of SDXL's architecture, untrained."""
    from tests.tiny import sdxl

    folder = tmp_path_factory.mktemp("base") / "tiny"
    sdxl().save_pretrained(folder)
    return folder


@pytest.fixture
def chain_params(chain_values: dict[str, Any]) -> dict[str, Any]:
    """The embedded default's parameters, made small enough for a minute; a copy to change."""
    return copy.deepcopy(chain_values)


@pytest.fixture(scope="session")
def chain_values(chain_base: Path) -> dict[str, Any]:
    """The same, not to be changed."""
    from difflora.evaluation.settings import LORA_METHODS

    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    assets = ROOT / "assets" / "embedded"
    values["models"]["base"] |= {"folder": str(chain_base), "name": "tiny"}
    values["models"]["faces"]["folder"] = str(assets / "insightface")
    values["models"]["images"] = str(assets / "clip")
    values["identities"]["count"] = 12
    values["identities"]["pictures"] = {
        "candidates": 6,
        "keep": 5,
        "references": 3,
        "splits": {"validation": 0.2, "test": 0.3, "seed": 1},
    }
    values["identities"]["screen"] = {"least_face": 16, "repeated": "keep"}
    values["corpus"]["dreambooth"] |= {"targets": ["attention"], "steps": 2, "batch_size": 2, "start": None}
    values["corpus"]["people_at_once"] = 6
    values["lae"]["model"] |= {"strides": [4, 4], "channels": [4, 4], "width": 8, "heads": 2, "mlp_width": 8}
    values["lae"]["loop"] |= _LOOP
    values["dit"]["model"] |= {"num_tokens": 4, "width": 16, "heads": 2, "layers": 1}
    values["dit"]["loop"] |= _LOOP
    values["dit"]["effect"] |= {"enabled": True, "images_per_step": 1}
    values["dit"]["effect"]["loop"] |= _LOOP | {"steps": 2, "batch_size": 2}
    values["dit"]["refine"] |= {"rounds": 1, "moves": 2, "steps": 2, "through": 1}
    values["evaluate"] |= {
        "methods": [*LORA_METHODS, "textual_inversion"],
        "textual_inversion": {"steps": 2, "batch_size": 1},
        "people": 2,
        "validation_people": 1,
        "images_per_prompt": 2,
        "prompts": values["evaluate"]["prompts"][:2],
        "validation_prompts": 1,
        "strengths": [1.0, 1.5],
        "num_inference_steps": 2,
        "pictures": {"steps": 2, "guidance_scale": 1.0},
        "independent": str(assets / "evaluation" / "recogniser" / "recogniser.onnx"),
        "agreement_options": {"assets": str(assets)},
        "metrics": {"dino": str(assets / "evaluation" / "dino"), "clip": str(assets / "clip"), "fid": "dino"},
        "regression": {"components": 3, "mlp_epochs": 2},
        "sheet_people": 1,
        "figures": {
            "autoencoders": {"ranks": [2], "size": 16, "pictures": 12, "channels": [4], "steps": 3, "batch_size": 4},
            "quartile_people": 2,
            "quartile_prompts": 1,
            "denoising_people": 1,
            "denoising_pictures": 2,
        },
    }
    values["register"]["num_inference_steps"] = 2
    return values
