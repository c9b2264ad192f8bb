from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.stages.run import STAGES, run_stage


@pytest.fixture(scope="session")
def chain(chain_values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after all steps; whoever changes it copies it first."""
    root = tmp_path_factory.mktemp("chain")
    (root / "params.yaml").write_text(yaml.safe_dump(chain_values))
    for name in STAGES:
        run_stage(name, root / "params.yaml")
    return root
