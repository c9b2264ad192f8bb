"""``difflora figures draw``: the paper's figures from what the chain left, into ``reports/figures``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.corpus.splits import Split
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadFile, BadParameter
from difflora.evaluation.figures import quartiles
from difflora.evaluation.figures.autoencoders import draw_autoencoders, measure_autoencoders, rows_per_person, shrink
from difflora.evaluation.figures.canvas import Drawing
from difflora.evaluation.figures.curves import PATTERN, draw_curves, read_curves
from difflora.evaluation.figures.denoising import KINDS, chosen_steps, draw_denoising, measure_denoising
from difflora.evaluation.figures.index import write_figures
from difflora.evaluation.figures.ladder import draw_rungs, read_rungs
from difflora.evaluation.figures.methods import draw_grid, read_grid
from difflora.evaluation.figures.settings import FigureSettings
from difflora.evaluation.figures.train_people import draw_growth, read_growth
from difflora.evaluation.figures.weight_map import draw_weights, measure_weights
from difflora.evaluation.likeness import Likeness
from difflora.evaluation.measure import Scorer
from difflora.evaluation.page import EVALUATE
from difflora.evaluation.rows import embed_subjects, generate_rows
from difflora.evaluation.settings import EvaluateSettings
from difflora.evaluation.subjects import Subject, load_subjects
from difflora.folders import read_json
from difflora.inference.painter import Painter
from difflora.lora import canonical
from difflora.models import DiffLoRAPipeline, LoraAutoencoder
from difflora.models.portable import load_model
from difflora.stages.evaluate import open_pipeline
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.workspace import Workspace
from difflora.training.rows import LoraRows


@dataclass
class Parts:
    """What figures are made of, opened when first asked for.

    Attributes:
        workspace: of the chain.
        progress: whether bars are shown.
    """

    workspace: Workspace
    progress: bool

    @property
    def evaluate(self) -> EvaluateSettings:
        """The evaluation's settings."""
        return self.workspace.params.evaluate

    @property
    def settings(self) -> FigureSettings:
        """The figures' own."""
        return self.evaluate.figures

    @cached_property
    def people(self) -> PeopleFolder:
        """Everyone's pictures."""
        return self.workspace.open_people()

    @cached_property
    def corpus(self) -> Corpus:
        """Everyone's LoRAs."""
        return self.workspace.open_corpus()

    @cached_property
    def base(self) -> FrozenBase:
        """The base model."""
        return self.workspace.open_base()

    @cached_property
    def faces(self) -> SubjectEncoder:
        """The face pack."""
        return self.workspace.open_faces()

    @cached_property
    def likeness(self) -> Likeness:
        """The recognisers."""
        return Likeness(self.faces, self.evaluate.independent)

    @cached_property
    def lae(self) -> LoraAutoencoder:
        """The autoencoder as it was trained on weights."""
        lae: LoraAutoencoder = load_model(LoraAutoencoder, self.workspace.lae, self.workspace.params.models.device)
        return lae

    @cached_property
    def pipeline(self) -> DiffLoRAPipeline:
        """The hypernetwork, with encoders."""
        return open_pipeline(self.workspace, self.faces)

    @property
    def evaluation(self) -> dict[str, object]:
        """What the step ``evaluate`` measured."""
        return read_json(self.workspace.report("evaluation.json"), EVALUATE)

    @property
    def strength(self) -> float:
        """Of generated LoRAs, as the evaluation chose it; 1 where there is none yet."""
        if not self.workspace.report("evaluation.json").exists():
            return 1.0
        chosen = self.evaluation.get("strength")
        return float(chosen.get("generated", 1.0)) if isinstance(chosen, dict) else 1.0

    def subjects(self, most: int, prompts: int) -> list[Subject]:
        """The evaluation's first people, with its first prompts."""
        chosen = self.evaluate
        count = min(most, chosen.people)
        return load_subjects(self.people, self.corpus, "test", count, self.likeness, chosen, chosen.prompts[:prompts])

    def scorer(self, painter: Painter, bar: tqdm) -> Scorer:
        """Draws and scores, and tells a bar."""
        return Scorer(painter, self.likeness, None, self.workspace.params.corpus.dreambooth.scale, bar.update)

    def painter(self) -> Painter:
        """Of the evaluation's pictures."""
        return Painter(self.base, self.corpus.layout, self.evaluate.pictures)

    def bar(self, name: str, total: int, unit: str) -> tqdm:
        """A bar of one figure's work, which goes when it is done."""
        return tqdm(total=total, desc=name, unit=unit, leave=False, mininterval=2, disable=not self.progress)


@dataclass(frozen=True)
class Kind:
    """A figure that can be drawn.

    Attributes:
        make: draws it.
        needs: pattern of files below the workspace's root -> the command that makes them.
        lacks: what the files, all there, do not hold yet, by the workspace's root; None where they hold all.
    """

    make: Callable[[Parts], Drawing]
    needs: Mapping[str, str]
    lacks: Callable[[Path], str | None] = lambda _: None


@dataclass(frozen=True)
class Drawn:
    """What was done.

    Attributes:
        files: the pictures that were written.
        skipped: name of a figure -> what it lacks and how to make that.
    """

    files: list[Path]
    skipped: dict[str, str] = field(default_factory=dict)


def _ladder(parts: Parts) -> Drawing:
    return draw_rungs(read_rungs(parts.evaluation, str(parts.workspace.report("evaluation.json"))))


def _methods(parts: Parts) -> Drawing:
    chosen = parts.settings
    return draw_grid(read_grid(parts.workspace.report("pictures"), chosen.grid_people, chosen.grid_prompts))


def _autoencoders(parts: Parts) -> Drawing:
    chosen, people = parts.settings.autoencoders, parts.people
    known, unseen = people.split("train"), people.split("test")[: chosen.people]
    known = known[: chosen.pictures]
    each = rows_per_person(chosen.pictures, max(1, len(known)))

    def pictures(identity: str) -> Tensor:
        person = people.person(identity)
        return shrink(torch.cat([person.references, person.images])[:each], chosen.size)  # (K, 3, S, S)

    train, test = [pictures(identity) for identity in known], [pictures(identity) for identity in unseen]
    with parts.bar("autoencoders", chosen.steps * (len(chosen.ranks) + 1), "step") as bar:
        found = measure_autoencoders(
            torch.cat(train) if train else torch.empty(0, 3, chosen.size, chosen.size),
            test,
            chosen,
            parts.evaluate.seed,
            bar.update,
        )
    return draw_autoencoders(found)


def _quartiles(parts: Parts) -> Drawing:
    subjects = parts.subjects(parts.settings.quartile_people, parts.settings.quartile_prompts)
    rows = parts.corpus.rows([parts.corpus.places[subject.identity] for subject in subjects])  # (P, D)
    total = quartiles.work(len(subjects), len(subjects[0].prompts))
    with parts.bar("quartiles", total, "picture") as bar, parts.painter() as painter:
        found = quartiles.measure_quartiles(
            subjects, rows, parts.corpus.layout, parts.scorer(painter, bar), parts.evaluate.seed
        )
    return quartiles.draw_quartiles(found)


def _denoising(parts: Parts) -> Drawing:
    subjects = parts.subjects(parts.settings.denoising_people, 1)
    steps = chosen_steps(parts.evaluate.num_inference_steps, parts.settings.denoising_pictures)
    total = len(subjects) * len(steps) * len(KINDS)
    with parts.bar("denoising", total, "picture") as bar, parts.painter() as painter:
        scorer = parts.scorer(painter, bar)
        found = measure_denoising(parts.pipeline, subjects, scorer, parts.evaluate, parts.strength)
    return draw_denoising(found)


def _weights(parts: Parts) -> Drawing:
    lae, form = parts.lae, parts.workspace.params.lae.canonical_form
    subjects = parts.subjects(parts.settings.map_generated, 1)
    face, image = embed_subjects(subjects, parts.pipeline)
    generated, _ = generate_rows(subjects, parts.pipeline, face, image, parts.evaluate)  # (P, D)
    if form:
        generated = canonical(generated, parts.corpus.layout)

    def rows(split: Split) -> LoraRows:
        return LoraRows(parts.corpus, split, canonical_form=form)

    train, test = rows("train"), rows("test")
    places = [test.names.index(subject.identity) for subject in subjects]
    sizes = {
        "training": min(len(train), parts.settings.map_training),
        "held-out": len(subjects),
        "generated": len(subjects),
    }
    flat = torch.empty(sum(sizes.values()), parts.corpus.layout.size)  # (N, D), the one copy of all
    start = 0
    for part in (*(train.take([place]) for place in range(sizes["training"])), test.take(places), generated):
        flat[start : start + len(part)] = lae.normalisation.apply(part.to(lae.mean.device)).cpu()
        start += len(part)
    return draw_weights(measure_weights(flat, sizes, parts.evaluate.seed))


def _curves(parts: Parts) -> Drawing:
    folder = parts.workspace.root / "reports"
    curves = read_curves(sorted(folder.glob(PATTERN)))
    if not curves:
        raise BadFile(f"{folder}/{PATTERN}: hold no step; run `difflora stage lae` again")
    return draw_curves(curves)


def _train_people(parts: Parts) -> Drawing:
    path = parts.workspace.report("ablations.json")
    return draw_growth(read_growth(read_json(path), str(path)))


def _no_rows_by_people(root: Path) -> str | None:
    """Of ablations among which none, or only one, is of a number of people."""
    ((name, advice),) = _ABLATIONS.items()
    rows = read_json(root / name).get("train_people")
    if isinstance(rows, list) and len(rows) < 2:
        return f"{root / name}: has no two rows by the number of people; {advice} first"
    return None


_PEOPLE = {"data/people/people.json": "run `difflora stage identities`"}
_CORPUS = {"data/corpus/corpus.json": "run `difflora stage corpus`"}
_DIT = {"models/dit/model_index.json": "run `difflora stage dit`"}
_EVALUATION = {"reports/evaluation.json": "run `difflora stage evaluate`"}
_ABLATIONS = {"reports/ablations.json": "run `difflora ablate people`"}

FIGURES: dict[str, Kind] = {
    "ladder": Kind(_ladder, _EVALUATION),
    "methods": Kind(_methods, {"reports/pictures/index.json": "run `difflora stage evaluate`"}),
    "train_people": Kind(_train_people, _ABLATIONS, _no_rows_by_people),
    "autoencoders": Kind(_autoencoders, _PEOPLE),
    "quartiles": Kind(_quartiles, _PEOPLE | _CORPUS),
    "denoising": Kind(_denoising, _PEOPLE | _CORPUS | _DIT),
    "weights": Kind(_weights, _PEOPLE | _CORPUS | {"models/lae/config.json": "run `difflora stage lae`"} | _DIT),
    "curves": Kind(_curves, {f"reports/{PATTERN}": "run `difflora stage lae`"}),
}
"""Name, as its file is called -> figure, in the order of a report."""


def draw(workspace: Workspace, tracker: Tracker = SILENT, *, only: Sequence[str] = (), progress: bool = True) -> Drawn:
    """Draws what can be drawn, then writes all of it to ``reports/figures``, the index last.

    Args:
        workspace: of the chain.
        tracker: gets the folder as artifact ``figures``.
        only: names of ``FIGURES``, whose others then stay as they are. Empty for all: what cannot be drawn is gone.
        progress: whether to show bars with the time left.

    Raises:
        BadParameter: if there is no such figure, or too few people for one.
        BadFile: if something is damaged; a figure that was asked for by name lacks something; or all do.
    """
    if unknown := [name for name in only if name not in FIGURES]:
        raise BadParameter(f"no figure is named {unknown[0]!r}; there are: {', '.join(FIGURES)}")
    parts, drawings = Parts(workspace, progress), {}
    lacking = {name: said for name in only or FIGURES if (said := _lacks(workspace.root, FIGURES[name]))}
    if lacking and (only or len(lacking) == len(FIGURES)):
        raise BadFile(next(iter(lacking.values())))
    names = [name for name in FIGURES if name in (only or FIGURES) and name not in lacking]
    with tqdm(names, desc="figures", unit="figure", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            drawings[name] = FIGURES[name].make(parts)
    folder = workspace.report("figures")
    files = write_figures(folder, drawings, list(FIGURES), keep=bool(only))
    tracker.artifact(folder, folder="figures")
    return Drawn(files, lacking)


def _lacks(root: Path, kind: Kind) -> str | None:
    """What a figure lacks first; None where all is there."""
    for pattern, advice in kind.needs.items():
        if not any(root.glob(pattern)):
            return f"{root / pattern}: no such file; {advice} first"
    return kind.lacks(root)
