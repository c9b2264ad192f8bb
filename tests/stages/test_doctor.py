"""What the doctor finds in a workspace, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from difflora.stages.doctor import Finding, examine


@pytest.fixture
def root(chain_params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace without servers and without tracking."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chain_params))
    return tmp_path


def _of(found: list[Finding], topic: str) -> list[tuple[str, str]]:
    return [(one.verdict, one.text) for one in found if one.topic == topic]


def test_a_whole_workspace_lacks_nothing(root: Path) -> None:
    found = examine(root)
    assert "missing" not in {one.verdict for one in found}
    assert any("torch 2" in text for _, text in _of(found, "versions"))
    assert any("cores" in text for _, text in _of(found, "devices"))
    presets = {text.partition(":")[0] for _, text in _of(found, "presets")}
    assert presets == {
        "embedded.yaml",
        "embedded-photomaker.yaml",
        "embedded-style.yaml",
        "sdxl.yaml",
        "sd15-style.yaml",
        "paper.yaml",
    }
    assert ("note", "MLflow: nothing is tracked") in _of(found, "servers")
    assert any("PREFECT_API_URL is not set" in text for _, text in _of(found, "servers"))
    assert {verdict for verdict, _ in _of(found, "weights")} == {"ok"}


def test_servers_that_are_away_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFLORA_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    found = _of(examine(root), "servers")
    assert [verdict for verdict, _ in found] == ["note", "note"]
    assert "does not answer" in found[1][1]
    assert all("127.0.0.1:9" in text for _, text in found)
    assert not any("secret" in text for _, text in found)


def test_weights_to_bring_and_their_licence_are_named(root: Path, chain_params: dict[str, Any]) -> None:
    chain_params["models"]["faces"] |= {"folder": "weights/insightface", "pack": "antelopev2"}
    (root / "params.yaml").write_text(yaml.safe_dump(chain_params))
    found = examine(root)
    [missing] = [text for verdict, text in _of(found, "weights") if verdict == "missing"]
    assert "weights/insightface/models/antelopev2: not there; " in missing
    assert any("non-commercial" in text for _, text in _of(found, "licences"))


def test_a_mistake_in_the_parameters_is_found(root: Path) -> None:
    (root / "params.yaml").write_text("lae: 3\n")
    assert [(one.topic, one.verdict) for one in examine(root)][-1] == ("weights", "missing")
