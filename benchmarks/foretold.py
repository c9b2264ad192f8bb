"""How much of a held-out person's pictures do LoRAs foretell that were made from one picture of theirs?

The yardstick is the base's own denoising loss on the pictures of people whom no model has seen, under a LoRA: 0 is the
loss without one, 1 that under the person's own. It takes seconds, where likeness takes minutes of drawing, and its
draws are the same for all; likeness may order LoRAs otherwise, so whatever is chosen by it is then drawn and scored.
Compared are the mean LoRA, the autoencoder's reconstruction of people's own, the linear skip at several penalties, and
the hypernetworks that are given.

    python -m benchmarks.foretold --models models/dit --penalties 0.01,0.1,1,100 --out outputs/foretold.json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from difflora.corpus.draws import Apart, denoising_losses, gather
from difflora.corpus.many import ManyLoras
from difflora.corpus.settings import DreamBoothSettings
from difflora.files import write_json
from difflora.models import DiffLoRAPipeline, LoraAutoencoder, LoraTransformer
from difflora.models.portable import load_model
from difflora.stages.evaluate import open_pipeline
from difflora.stages.params import load_params
from difflora.stages.workspace import Workspace
from difflora.training import ConditionFeatures
from difflora.training.pictures import EncodedPeople
from difflora.training.ridge import fit_ridge
from difflora.training.rows import LoraRows

_AT_ONCE = 11


class HeldOut:
    """Held-out people's pictures, and the base's loss on them under any LoRAs.

    Args:
        workspace: of a chain that has been run up to ``lae``.
        pictures: of each person, drawn by chance, at one timestep each.
        repeats: how often.
    """

    def __init__(self, workspace: Workspace, pictures: int, repeats: int) -> None:
        self._base, people, self._corpus = workspace.open_base(), workspace.open_people(), workspace.open_corpus()
        entries = [entry for entry in self._corpus.entries if entry.split != "train"]
        self.names = [entry.identity for entry in entries]
        effect = workspace.params.dit.effect
        self._pictures = EncodedPeople(self._base, people, self.names, workspace.params.dit.most_pictures)
        self._drawing = DreamBoothSettings(
            batch_size=pictures, face_weight=effect.face_weight, mode_scale=effect.mode_scale
        )
        self._factor, self._repeats = workspace.params.corpus.dreambooth.scale, repeats
        self.own = self._corpus.rows([self._corpus.places[name] for name in self.names])  # (P, D)
        faces, images = workspace.open_faces(), workspace.open_images()
        shown = [people.person(name).references[0].permute(1, 2, 0).numpy() for name in self.names]
        self.face, self.image = torch.from_numpy(faces.encode(shown).embeddings), images(shown)
        self._without, self._under_own = self._losses(torch.zeros_like(self.own)), self._losses(self.own)

    @torch.no_grad()
    def _losses(self, rows: Tensor) -> Tensor:
        """(P,) of (P, D)."""
        found = []
        with ManyLoras(self._base.unet, self._corpus.layout, self._factor) as loras:
            for start in range(0, len(rows), _AT_ONCE):
                part = rows[start : start + _AT_ONCE]
                data = gather(self._base, [self._pictures[start + place] for place in range(len(part))], self._drawing)
                loras.set(part)
                generator = torch.Generator().manual_seed(start)
                apart = Apart(len(part), slice(None))
                draws = [
                    denoising_losses(self._base, self._base.unet, data, self._drawing, generator, apart=apart)
                    for _ in range(self._repeats)
                ]
                found.append(torch.stack(draws).mean(0))
        return torch.cat(found)

    def share(self, rows: Tensor) -> float:
        """Of what people's own LoRAs take off the loss, how much LoRAs (P, D) take off."""
        gain = self._without - self._losses(rows)
        return round(float(gain.sum() / (self._without - self._under_own).sum()), 4)


def main(
    params: Annotated[Path, typer.Option(help="The workspace's parameters.")] = Path("params.yaml"),
    models: Annotated[str, typer.Option(help="Hypernetworks' folders, with commas between.")] = "",
    penalties: Annotated[str, typer.Option(help="Of the linear skip, with commas between.")] = "0.01,0.1,1,100",
    strengths: Annotated[str, typer.Option(help="S of mean + S (V - mean).")] = "1,1.5",
    pictures: Annotated[int, typer.Option(min=1, help="Of each person.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Draws of pictures, timesteps and noise.")] = 2,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Compares LoRAs by the share of their people's own LoRAs' gain, in the base's loss."""
    workspace = Workspace(params.resolve().parent, load_params(params))
    held_out, corpus = HeldOut(workspace, pictures, repeats), workspace.open_corpus()
    rows = LoraRows(corpus, "train", canonical_form=workspace.params.lae.canonical_form)
    lae = load_model(LoraAutoencoder, workspace.lae, "cpu")
    with torch.no_grad():
        latents = torch.cat([lae.encode(part) for part in rows])  # (N, Z)
    mean = torch.cat(list(rows)).mean(0)  # (D,)
    made = {"mean of the training people": mean.expand_as(held_out.own)}
    with torch.no_grad():
        made["reconstruction of their own"] = lae.decode(lae.encode(held_out.own))
    chosen = [float(words) for words in filter(None, penalties.split(","))]
    for penalty, flat in zip(chosen, _skips(workspace, rows, lae, latents, held_out, chosen), strict=True):
        made[f"linear skip, penalty {penalty:g}"] = flat
    for folder in filter(None, models.split(",")):
        made[folder] = _generated(open_pipeline(workspace, workspace.open_faces(), Path(folder)), held_out)
    figures = {
        name: {words: held_out.share(mean + float(words) * (flat - mean)) for words in strengths.split(",")}
        for name, flat in made.items()
    }
    table = Table("", *(f"S = {words}" for words in strengths.split(",")), title=f"{len(held_out.names)} people")
    for name, row in figures.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {"people": len(held_out.names), "train_people": len(rows), "share": figures})


def _skips(
    workspace: Workspace,
    rows: LoraRows,
    lae: LoraAutoencoder,
    latents: Tensor,
    held_out: HeldOut,
    penalties: Sequence[float],
) -> list[Tensor]:
    """LoRAs (P, D) by ridge regression alone, from what the transformer's skip sees; one for each penalty."""
    features = ConditionFeatures.load(workspace.features).of(rows.names)
    transformer: LoraTransformer = LoraTransformer(
        latent_size=lae.latent_size,
        face_dim=features.face.shape[1],
        image_dim=features.image.shape[1],
        settings={**workspace.params.dit.model.model_dump(mode="json"), "linear_skip": True},
    )
    transformer.fit_features(features.face, features.image)
    known, shown = (
        transformer.skip_inputs(*transformer.standardised(face, image))
        for face, image in ((features.face, features.image), (held_out.face, held_out.image))
    )
    fitted = [fit_ridge(known, latents, features.owners, penalty) for penalty in penalties]
    with torch.no_grad():
        return [lae.decode(shown @ one.weight.T + one.bias) for one in fitted]


def _generated(pipeline: DiffLoRAPipeline, held_out: HeldOut) -> Tensor:
    """A hypernetwork's LoRAs (P, D) at strength 1."""
    generators = [torch.Generator().manual_seed(place) for place in range(len(held_out.names))]
    with torch.no_grad():
        flat, _ = pipeline.generate(held_out.face, held_out.image, generator=generators, strength=1.0)
    return flat


if __name__ == "__main__":
    typer.run(main)
