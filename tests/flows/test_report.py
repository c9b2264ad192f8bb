from __future__ import annotations

from pathlib import Path

import pytest

from difflora.files import write_json
from flows import report
from flows.tasks import StageDone


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "create_markdown_artifact", lambda *_, **__: None)
    figure = {"mean": 0.5, "low": 0.4, "high": 0.6}
    write_json(tmp_path / "reports" / "evaluation.json", {"people": 2, "methods": {"base": {"face_sim": figure}}})
    write_json(tmp_path / "reports" / "runs" / "evaluate.json", {"run_id": "r1", "experiment_id": "7"})
    return tmp_path


def _text(root: Path) -> str:
    return report.publish(root, "title", ["words"], [StageDone("evaluate", "ran", 1.0)], key="difflora-full")


def test_the_artifact_links_the_report(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000/")
    run = "http://localhost:5000/#/experiments/7/runs/r1"
    text = _text(root)
    assert f"({run})" in text
    assert "evaluation.html" not in text, "there is none yet"
    (root / "reports" / "evaluation.html").write_text("")
    text = _text(root)
    assert f"- report: `{root / 'reports' / 'evaluation.html'}`" in text
    assert f"({run}/artifactPath/evaluation.html)" in text


def test_without_a_server_the_report_is_a_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (root / "reports" / "evaluation.html").write_text("")
    text = _text(root)
    assert "evaluation.html`" in text
    assert "artifactPath" not in text
