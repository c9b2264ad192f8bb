from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from rich.console import Console

from difflora.evaluation.ladder import Ladder
from difflora.evaluation.measure import Measured
from difflora.evaluation.report import PAIRS, by_person, summarise
from difflora.evaluation.set_distances import SetFigure
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.sheet import people_sheet
from difflora.evaluation.subjects import Subject
from difflora.evaluation.table import further_tables, ladder_table, summary_lines
from difflora.evaluation.tables import tables_of

LEVELS = {
    "base": 0.0,
    "other": 0.01,
    "retrieval": 0.3,
    "ridge": 0.32,
    "mlp": 0.35,
    "textual_inversion": 0.38,
    "reconstruction": 0.42,
    "generated": 0.45,
    "teacher": 0.5,
    "real": 0.8,
}


@pytest.fixture(scope="module")
def ladder(make_subject: Callable[..., Subject]) -> Ladder:
    generator = np.random.default_rng(0)
    own = generator.normal(0, 0.05, 12)

    def measured(level: float, real: bool = False) -> Measured:
        noise = generator.normal(0, 0.01, (2, 12))
        scores = {"face_sim": level + own + noise[0], "face_sim_independent": level / 2 + own + noise[1]}
        scores["faces_found"] = np.ones(12)
        if not real:
            scores["agreement"] = np.full(12, 0.9)
        scores["dino"] = 0.5 + own
        draws = np.linspace(-0.1, 0.1, 41)
        sets = {"fid": SetFigure(1 - level, 1 - level + draws), "kid": SetFigure(0.2, 0.3 + draws)}
        parts = {} if real else {"merge": 0.25, "images": 0.5}
        return Measured(scores, torch.randint(256, (12, 2, 3, 16, 16), dtype=torch.uint8), sets, parts)

    native = {name: measured(level, name == "real") for name, level in LEVELS.items()}
    best = {name: measured(1.1 * level, name == "real") for name, level in LEVELS.items()}
    best["textual_inversion"] = native["textual_inversion"]
    subjects = [make_subject(f"p{number}", torch.eye(2)[0]) for number in range(12)]
    strengths = {name: 1.25 for name in LEVELS if name not in ("base", "real", "textual_inversion")}
    return Ladder(subjects, native, best, strengths, {}, {"sample": 0.1, "decode": 0.2}, FACTS)


FACTS = {
    "metrics": {"left_out": {"image_reward": "evaluate.metrics.reward is null"}},
    "fid_features": "dino (vit)",
    "fid_reference": {"name": "real pictures of the training people", "pictures": 100},
}
SETTINGS = EvaluateSettings(people=12, prompts=("a photo of {person}", "{person} on a beach"))


def test_every_figure_is_where_it_is_looked_for(ladder: Ladder) -> None:
    figures = json.loads(json.dumps(summarise(ladder, SETTINGS), allow_nan=False))
    assert list(figures["methods"]) == list(LEVELS)
    for name, level in LEVELS.items():
        assert figures["methods_native"][name]["face_sim"]["mean"] == pytest.approx(level, abs=0.06)
        row = figures["methods"][name]["face_sim"]
        assert row["low"] < row["mean"] < row["high"]
    assert "agreement" not in figures["methods"]["real"], "real pictures were not asked for anything"
    for name in ("face_sim", "face_sim_independent"):
        assert figures["fraction"][name]["mean"] == pytest.approx(0.9, abs=0.03)
        assert figures["fraction_native"][name]["mean"] == pytest.approx(0.9, abs=0.05)
    assert set(figures["paired"]) == {f"{one}_minus_{other}" for one, other in PAIRS}
    assert figures["paired"]["generated_minus_retrieval"]["face_sim"]["low"] > 0.1
    assert figures["paired"]["generated_minus_teacher"]["face_sim"]["high"] < 0


def test_a_method_without_a_lora_has_no_strength(ladder: Ladder) -> None:
    figures = json.loads(json.dumps(summarise(ladder, SETTINGS)))
    assert figures["methods"]["textual_inversion"] == figures["methods_native"]["textual_inversion"]
    assert figures["strength"]["textual_inversion"] is None
    assert figures["strength"]["generated"] == 1.25
    assert set(figures["strength"]) == set(LEVELS) - {"base", "real"}
    assert "face_sim" in figures["paired"]["generated_minus_textual_inversion"]


def test_rows_that_nobody_draws_are_named_and_have_no_numbers(ladder: Ladder) -> None:
    figures = summarise(ladder, SETTINGS)
    assert figures["not_yet"] == ["instantid", "photomaker"]
    assert not {"instantid", "photomaker"} & {*figures["methods"], *figures["methods_native"]}
    first = tables_of(figures)[0]
    assert [row[0] for row in first.rows][-3:] == ["instantid", "photomaker", "real"]
    assert first.rows[-2][1:3] == ("", "not yet")
    assert ("textual inversion", "") in [row[:2] for row in first.rows]


def test_set_figures_have_intervals_and_paired_differences(ladder: Ladder) -> None:
    figures = json.loads(json.dumps(summarise(ladder, SETTINGS), allow_nan=False))
    row = figures["methods_native"]["generated"]
    assert row["fid"] == {"mean": 0.55, "low": pytest.approx(0.455), "high": pytest.approx(0.645)}
    assert row["kid"] == {"mean": 0.2, "low": pytest.approx(0.105), "high": pytest.approx(0.295)}
    minus = figures["paired_native"]["generated_minus_base"]
    assert minus["fid"] == {"mean": -0.45, "low": -0.45, "high": -0.45}, "draw by draw"
    assert minus["dino"]["mean"] == 0
    assert figures["fid_features"] == "dino (vit)"
    assert figures["fid_reference"]["pictures"] == 100


def test_seconds_have_parts_and_a_sum(ladder: Ladder) -> None:
    methods = summarise(ladder, SETTINGS)["methods"]
    assert methods["generated"]["seconds"] == {"merge": 0.25, "images": 0.5, "sum": 0.75}
    assert "seconds" not in methods["real"]


def test_figures_a_person_can_be_compared_again(ladder: Ladder) -> None:
    figures = by_person(ladder)
    assert figures["people"] == [f"p{number}" for number in range(12)]
    assert figures["best"]["teacher"]["face_sim"] == np.round(ladder.best["teacher"].scores["face_sim"], 4).tolist()


def test_the_report_says_which_rung_loses_most(ladder: Ladder) -> None:
    figures = json.loads(json.dumps(summarise(ladder, SETTINGS)))
    table = next(
        one for one in tables_of(figures) if one.title.startswith("Likeness that each rung loses, at the chosen")
    )
    assert table.columns == ("", "Face Sim ↑", "Independent ↑")
    assert [row[0] for row in table.rows][:2] == ["real to teacher", "teacher to reconstruction"]
    assert figures["losses"]["face_sim"]["says"] in table.notes[0]
    step, pair = figures["losses"]["face_sim"]["steps"], figures["paired"]
    assert step["teacher_to_reconstruction"] == pair["teacher_minus_reconstruction"]["face_sim"]
    assert step["other_to_base"] == pair["other_minus_base"]["face_sim"]
    assert step["reconstruction_to_generated"]["mean"] == -pair["generated_minus_reconstruction"]["face_sim"]["mean"]


def test_the_table_has_a_row_a_method(ladder: Ladder) -> None:
    figures = summarise(ladder, SETTINGS)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the process
    console.print(ladder_table(figures))
    text = console.export_text()
    assert all(name in text for name in (*LEVELS, "instantid", "not yet"))
    assert any("fraction" in line for line in summary_lines(figures))
    assert any(
        "by face_sim: Most likeness is lost from the person's own DreamBooth" in x for x in summary_lines(figures)
    )
    assert "not measured: image_reward, evaluate.metrics.reward is null" in summary_lines(figures)


def test_further_tables_fit_a_terminal(ladder: Ladder) -> None:
    figures = summarise(ladder, SETTINGS)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the process
    quality, seconds = further_tables(figures)
    console.print(quality)
    text = " ".join(console.export_text().split())
    dino = f"{figures['methods']['generated']['dino']['mean']:.3f}"
    assert all(word in text for word in ("DINO", "FID", "KID", "against 100 real pictures", dino)), text
    assert "CLIP-T" not in text, "nobody has it"
    console.print(seconds)
    assert "0.7500" in console.export_text()
    bare = {"methods": {"base": {"face_sim": {"mean": 0.0, "low": 0.0, "high": 0.0}}}}
    assert further_tables(bare) == []


def test_the_sheet_is_a_picture(ladder: Ladder) -> None:
    assert people_sheet(ladder, 2).startswith(b"\x89PNG")
