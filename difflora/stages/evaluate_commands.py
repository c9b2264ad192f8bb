"""``difflora evaluate``: any hypernetwork on a workspace's held-out people, by settings given here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A hypernetwork's folder; what the step dit made when left out."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Gets page, tables, pictures; never the chain's reports/."),
    ] = Path("outputs/evaluation"),
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Compared beside base and real: other, retrieval, ridge, mlp, textual_inversion, reconstruction, "
            "generated, teacher.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="People, prompts and pictures of a protocol: paper (4.3: 50 people, 30 prompts, 4 pictures)."
        ),
    ] = None,
    people: Annotated[int | None, typer.Option(help="People of the split test, the first ones.")] = None,
    references: Annotated[int | None, typer.Option(help="Pictures of a person that methods see.")] = None,
    images_per_prompt: Annotated[int | None, typer.Option(help="Pictures of a prompt, each of its own noise.")] = None,
    strengths: Annotated[
        str | None,
        typer.Option(metavar="S,...", help="Of mean + S (V - mean), tried on validation people; 1 is one of them."),
    ] = None,
    num_inference_steps: Annotated[int | None, typer.Option(help="Steps of the sampler of LoRAs.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Of LoRAs: ddim or dpm++.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Of the sampler of LoRAs; 1 for none.")] = None,
    picture_steps: Annotated[int | None, typer.Option(help="Steps of each picture.")] = None,
    picture_guidance: Annotated[float | None, typer.Option(help="Guidance of each picture; 1 for none.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the pictures' noise and of sampling.")] = None,
    params: Annotated[
        Path, typer.Option("--params", metavar="FILE", help="The workspace's parameters; options change evaluate's.")
    ] = Path("params.yaml"),
) -> None:
    """Measure a hypernetwork on the workspace's held-out people: likeness, prompts, pictures, seconds, with intervals.

    The chain up to dit must have been run here: its people, LoRAs and base model are what is compared with. What is not
    given stands in section evaluate of the parameters; the step evaluate measures by that section alone. A bar shows
    the time left.

    Example: difflora evaluate --people 16 --methods retrieval,generated,teacher -o outputs/quick
    """
    from difflora.errors import BadParameter
    from difflora.stages.commands import figures
    from difflora.stages.evaluate import measure, write_results
    from difflora.stages.params import Params, load_params
    from difflora.stages.workspace import Workspace
    from difflora.validation import validated

    if out.resolve() == (params.parent / "reports").resolve():
        raise BadParameter(f"--out {out}: is the chain's own; give another folder, or run `difflora stage evaluate`")
    values = load_params(params).model_dump(mode="json", by_alias=True)
    chosen: dict[str, Any] = values["evaluate"]
    if protocol is not None:
        for name in ("people", "prompts", "images_per_prompt"):
            del chosen[name]
    given = {
        "methods": _words(methods),
        "protocol": protocol,
        "people": people,
        "references": references,
        "images_per_prompt": images_per_prompt,
        "strengths": _words(strengths),
        "num_inference_steps": num_inference_steps,
        "sampler": sampler,
        "guidance_scale": guidance_scale,
        "seed": seed,
    }
    chosen |= {name: value for name, value in given.items() if value is not None}
    pictures = {"steps": picture_steps, "guidance_scale": picture_guidance}
    chosen["pictures"] |= {name: value for name, value in pictures.items() if value is not None}
    workspace = Workspace(params.parent, validated(Params, values, str(params)))
    ladder, found = measure(workspace, model)
    write_results(workspace, ladder, found, out)
    figures(out / "evaluation.json")
    typer.echo(f"the page: {out / 'evaluation.html'}")


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",")]
