"""What a flow leaves for people to read: a markdown artifact."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from prefect.artifacts import create_markdown_artifact

from difflora.folders import read_json
from difflora.stages.tracking import run_file
from flows.tasks import StageDone

_SCORES = ("face_sim", "face_sim_independent", "agreement")
_WIDTH = 720


def publish(
    root: Path,
    title: str,
    words: Sequence[str],
    done: Sequence[StageDone] = (),
    decision: dict[str, Any] | None = None,
    *,
    key: str,
) -> str:
    """Writes the artifact of a flow run, and gives its text.

    Args:
        root: of the workspace.
        title: of the artifact.
        words: sentences that say what happened, the most telling first.
        done: the stages.
        decision: of the gate, as ``flows.tasks.promote`` gives it.
        key: of the artifact; lowercase letters, digits and dashes.
    """
    parts = [f"# {title}", *words]
    if done:
        rows = [f"| {one.stage} | {one.status} | {one.seconds:g} |" for one in done]
        parts.append("\n".join(["| stage | | seconds |", "|---|---|---:|", *rows]))
    if decision is not None:
        head = f"## {decision['candidate']}: {'promoted' if decision['promoted'] else 'kept out'}"
        parts += [head, f"Champion: {decision['champion'] or 'none'}."]
        parts.append("\n".join(f"- {line}" for line in decision["lines"]))
    figures = root / "reports" / "evaluation.json"
    if done and figures.exists():
        parts += [_table(read_json(figures)), *_sheet(root / "reports" / "people.png"), _links(root)]
    text = "\n\n".join(parts)
    create_markdown_artifact(text, key=key, description=title)
    return text


def _table(figures: dict[str, Any]) -> str:
    """Every method with its intervals."""
    lines = [
        f"## Measured on {figures['people']} people whom no model has seen",
        "",
        "| method | " + " | ".join(name.replace("_", " ") for name in _SCORES) + " |",
        "|---|" + "---|" * len(_SCORES),
    ]
    for name, scores in figures["methods"].items():
        cells = [_interval(scores[score]) if score in scores else "" for score in _SCORES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _sheet(path: Path) -> list[str]:
    """The picture grid, small enough to lie in the text itself."""
    if not path.exists():
        return []
    with Image.open(path) as picture:
        small = picture.convert("RGB")
        small.thumbnail((_WIDTH, 4 * _WIDTH))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return [f"![{path.name}](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()})"]


def _links(root: Path) -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    lines = ["## Where it is", "", f"- model: `{root / 'models' / 'difflora'}`", f"- figures: `{root / 'reports'}`"]
    page = root / "reports" / "evaluation.html"
    lines += [f"- report: `{page}`"] if page.exists() else []
    for stage in ("evaluate", "register"):
        known = read_json(run_file(root, stage)) if run_file(root, stage).exists() else {}
        if known.get("run_id") and uri.startswith("http"):
            place = f"{uri.rstrip('/')}/#/experiments/{known['experiment_id']}/runs/{known['run_id']}"
            lines.append(f"- [MLflow run of {stage}]({place})")
            if stage == "evaluate" and page.exists():
                lines.append(f"- [the report in MLflow]({place}/artifactPath/{page.name})")
        elif known.get("run_id"):
            lines.append(f"- MLflow run of {stage}: `{known['run_id']}`")
    return "\n".join(lines)
