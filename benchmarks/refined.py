"""How alike can LoRAs of this autoencoder be, and can one picture foretell such LoRAs?

The latents that a hypernetwork makes of training people are moved by the likeness of drawn faces alone, a person's at
a time and each with a gradient of the same length, for some steps. Held-out people's say how far that goes, beside
the start, the person's own LoRA and its reconstruction; then the moves of training people's are added to the linear
skip, which draws fresh people of another seed of the renderer, beside the hypernetworks that are given.
Whatever is drawn is scored by both recognisers, of which the independent one is not trained against. A chain
must have been run up to `dit`.

    python -m benchmarks.refined --people 200 --moves 15 --models models/dit --out outputs/refined.json
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from difflora.encoders.face_gradient import FaceGradient
from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadParameter
from difflora.evaluation.likeness import Faces, Likeness, similarity
from difflora.files import write_json
from difflora.inference.painter import Painter
from difflora.models import DiffLoRAPipeline
from difflora.processes import make_accelerator
from difflora.stages.evaluate import open_pipeline
from difflora.stages.params import load_params
from difflora.stages.workspace import Workspace
from difflora.training import ConditionFeatures
from difflora.training.captions import EncodedCaptions
from difflora.training.dit import sample_people
from difflora.training.on_latents import moved_transformer
from difflora.training.refine import refine_latents
from difflora.training.refine_settings import RefineSettings
from difflora.world.agreement import ClassifierAgreement
from difflora.world.identities import RenderedPeople

_HELD_OUT = 8


class Bench:
    """A chain's models, and what scores pictures.

    Args:
        workspace: of the chain.
    """

    def __init__(self, workspace: Workspace) -> None:
        faces, params = workspace.open_faces(), workspace.params
        if not isinstance(faces, InsightFaceEncoder):
            raise BadParameter("models.faces.pack: likeness needs a face pack")
        self.workspace, self.faces, self.images = workspace, faces, workspace.open_images()
        self.base, self.people, self.corpus = workspace.open_base(), workspace.open_people(), workspace.open_corpus()
        self.pipeline = open_pipeline(workspace, faces, workspace.dit)
        self.features = ConditionFeatures.load(workspace.features)
        self.likeness = Likeness(faces, params.evaluate.independent)
        self.agreement = ClassifierAgreement(params.evaluate.agreement_options["assets"])
        self.pipeline.lae.requires_grad_(False)

    def names(self, split: str, count: int) -> list[str]:
        """The first people of a split with a LoRA."""
        return [entry.identity for entry in self.corpus.entries if entry.split == split][:count]

    def refine(self, names: Sequence[str], settings: RefineSettings, folder: Path) -> tuple[Tensor, Tensor]:
        """Latents (N, Z) before and after; who is done is kept in the folder."""
        features = self.features.of(names)
        before = sample_people(self.pipeline.transformer, features, self.workspace.params.dit)
        most, prompts = self.workspace.params.dit.most_pictures, settings.prompts
        captions = EncodedCaptions(self.base, self.people, names, most, prompts=prompts)
        moved = refine_latents(
            before,
            self.pipeline.lae,
            features,
            self.base,
            FaceGradient(self.faces),
            captions,
            settings,
            place=0,
            checkpoint=folder,
            fingerprint={"people": list(names)},
            accelerator=make_accelerator("cpu"),
        )
        return before, moved.latents

    def score(self, flat: Tensor, real: Sequence[Faces], words: Sequence[str], seed: int = 1000) -> dict[str, float]:
        """Mean likeness by both recognisers and prompts followed, of LoRAs (P, D)."""
        chosen, lae = self.workspace.params.evaluate, self.pipeline.lae
        prompts = [[one.format(person=f"a {word}") for one in chosen.prompts] for word in words]
        seeds = [[seed + place for place in range(len(chosen.prompts))] for _ in words]
        found: dict[str, list[float]] = {}
        with Painter(self.base, lae.layout, chosen.pictures) as painter:
            scale = float(lae.config.alpha) / lae.layout.rank
            drawn = painter.paint_people(prompts, seeds, flat, scale)  # (P, K, 3, H, W)
        for pictures, others, asked in zip(drawn, real, prompts, strict=True):
            for name, values in similarity(self.likeness.look(pictures), others).items():
                found.setdefault(name, []).append(float(values.mean()))
            found.setdefault("prompts", []).append(float(self.agreement.score(pictures, asked).mean()))
        return {name: round(sum(values) / len(values), 4) for name, values in found.items()}


def _held_out(bench: Bench, settings: RefineSettings, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Validation people: their LoRAs before and after, their own, and its reconstruction."""
    names, lae = bench.names("validation", _HELD_OUT), bench.pipeline.lae
    real = [bench.likeness.look(bench.people.person(name).references) for name in names]
    words = [bench.people.person(name).class_word for name in names]
    own = bench.corpus.rows([bench.corpus.places[name] for name in names]).float()
    before, after = bench.refine(names, settings, folder / "held_out")
    with torch.no_grad():
        rows = {
            "generated": lae.decode(before),
            "refined": lae.decode(after),
            "reconstruction of their own": lae.decode(lae.encode(own)),
            "their own": own,
        }
    for name, flat in rows.items():
        yield name, bench.score(flat, real, words)


def _fresh(
    bench: Bench, people: int, fresh: int, seed: int, settings: RefineSettings, folder: Path, models: Sequence[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Fresh people from one picture: hypernetworks, and the skip with the moves of training people added."""
    source = RenderedPeople(seed=seed)
    shown, real, words = [], [], []
    for identity in source.ids(fresh):
        candidates = source.candidates(identity, 6, 1)
        pictures = candidates.images
        if bench.likeness.look(pictures[:1]).found.all():
            shown.append(pictures[0].permute(1, 2, 0).numpy())
            real.append(bench.likeness.look(pictures[1:]))
            words.append(candidates.class_word)
    face, image = torch.from_numpy(bench.faces.encode(shown).embeddings), bench.images(shown)

    def made(pipeline: DiffLoRAPipeline) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        flat, _ = pipeline.generate(face, image, generator=generator, guidance_scale=1.0, strength=1.0)
        return bench.score(flat, real, words)

    for model in models:
        yield model, made(open_pipeline(bench.workspace, bench.faces, Path(model)))
    names = [name for name in bench.features.names if bench.people.line(name)["split"] == "train"][:people]
    features = bench.features.of(names)
    before, after = bench.refine(names, settings, folder / "train")
    pipeline = copy.copy(bench.pipeline)
    moved = moved_transformer(bench.pipeline.transformer, after - before, features, settings.ridge)
    pipeline.register_modules(transformer=moved.train(False))
    yield f"skip after a round of {len(names)} people", made(pipeline)


def main(
    params: Annotated[Path, typer.Option(help="The workspace's parameters.")] = Path("params.yaml"),
    people: Annotated[int, typer.Option(min=2, help="Training people whose latents are moved.")] = 200,
    moves: Annotated[int, typer.Option(help="Of each.")] = 15,
    lr: Annotated[float, typer.Option(help="Length of a move, at first.")] = 0.12,
    pictures: Annotated[int, typer.Option(help="Drawn of each a move.")] = 2,
    steps: Annotated[int, typer.Option(help="Of sampling.")] = 8,
    through: Annotated[int, typer.Option(help="How many of the last ones have a gradient.")] = 3,
    fresh: Annotated[int, typer.Option(min=1, help="People of another seed who are scored.")] = 48,
    seed: Annotated[int, typer.Option(help="Of those.")] = 4711,
    held_out: Annotated[bool, typer.Option(help="Whether to move validation people's too.")] = True,
    models: Annotated[str, typer.Option(help="Hypernetworks' folders, with commas between.")] = "models/dit",
    folder: Annotated[Path, typer.Option(help="For those who are done.")] = Path("outputs/refined"),
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Measures, and prints tables."""
    bench = Bench(Workspace(params.resolve().parent, load_params(params)))
    chosen = bench.workspace.params.dit.refine
    settings = RefineSettings(
        rounds=1,
        moves=moves,
        lr=lr,
        pictures=pictures,
        steps=steps,
        through=through,
        prompts=chosen.prompts,
        ridge=chosen.ridge,
    )
    figures = {}
    if held_out:
        figures["held out"] = dict(_held_out(bench, settings, folder))
    names = [one for one in models.split(",") if one]
    figures["fresh"] = dict(_fresh(bench, people, fresh, seed, settings, folder, names))
    for title, rows in figures.items():
        table = Table("", *next(iter(rows.values())), title=title)
        for name, row in rows.items():
            table.add_row(name, *(f"{value:.3f}" for value in row.values()))
        Console().print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {"people": people, "settings": settings.model_dump(mode="json"), **figures})


if __name__ == "__main__":
    typer.run(main)
