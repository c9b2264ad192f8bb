"""``difflora corpus``: learn where LoRAs start, train those of many people, check them, say what they are like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadParameter

corpus = typer.Typer(help="LoRAs of many people: trained many at once, kept in checked shards.")

Folder = Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of the corpus.")]


@corpus.command()
def build(
    out: Folder,
    people: Annotated[Path, typer.Option(help="Folder of people, as `difflora identities build` makes it.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model: Stable Diffusion 1.x or XL.")],
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file of training settings; options win over it.")
    ] = None,
    base_name: Annotated[str | None, typer.Option(help="What to call the base model; else its folder's name.")] = None,
    count: Annotated[int | None, typer.Option(help="The first so many people; all when left out.")] = None,
    people_at_once: Annotated[int, typer.Option(help="People in a batch.")] = 16,
    target: Annotated[
        list[str] | None, typer.Option(help="attention, feed_forward... or ends of module names; several times.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of the LoRAs.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step of each person.")] = None,
    lr: Annotated[float | None, typer.Option(help="AdamW's peak rate.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, linear or cosine.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same for all people.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the frozen base: fp32 or bf16.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the rows on disk: fp16 or fp32.")] = "fp16",
    rows_per_shard: Annotated[int, typer.Option(help="Rows of a file.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1...")] = "cpu",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the UNet: worth its minute from some hundred people on.")
    ] = False,
    compile_blocks: Annotated[
        bool, typer.Option("--compile-blocks", help="Compile its repeated blocks alone, which are ready far sooner.")
    ] = False,
    class_pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keeps what prior preservation draws, for the next call.")
    ] = None,
) -> None:
    """Train a LoRA of each person and add it to the corpus, going on from what is there.

    Stop it at any moment and call it again: at most the batch in training is lost. A corpus is never continued with
    other settings.

    Example: difflora corpus build data/corpus --people data/people --base assets/embedded/base --steps 30 --lr 0.015
    """
    from difflora.corpus.allocator import keep_freed_memory
    from difflora.corpus.base import FrozenBase
    from difflora.corpus.build import build_corpus
    from difflora.corpus.people import PeopleFolder
    from difflora.corpus.settings import read_settings

    chosen = {
        "targets": target or None,
        "rank": rank,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "seed": seed,
        "precision": precision,
    }
    train = read_settings(settings, {key: value for key, value in chosen.items() if value is not None})
    if dtype not in ("fp16", "fp32"):
        raise BadParameter(f"dtype is {dtype!r}: give fp16 or fp32")
    keep_freed_memory()
    folder = PeopleFolder(people)
    frozen = FrozenBase.open(base, base_name, device=device, precision=train.precision)
    report = build_corpus(
        out,
        folder,
        frozen,
        train,
        people_at_once=people_at_once,
        count=count,
        dtype="fp16" if dtype == "fp16" else "fp32",
        rows_per_shard=rows_per_shard,
        compile="regional" if compile_blocks else compile,
        class_pictures=class_pictures,
    )
    rate = f" ({report.per_minute:.1f} a minute)" if report.trained else ""
    typer.echo(f"{out}: {report.there + report.trained} LoRAs, {report.trained} of them new{rate}")
    for reason in report.failed.values():
        typer.echo(f"no LoRA of {reason}", err=True)


@corpus.command()
def start(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The LoRA file to write.")],
    people: Annotated[Path, typer.Option(help="Folder of people; those of the split train are used, in turn.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model: Stable Diffusion 1.x or XL.")],
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file of the training settings that LoRAs will have.")
    ] = None,
    base_name: Annotated[str | None, typer.Option(help="What to call the base model; else its folder's name.")] = None,
    episodes: Annotated[int, typer.Option(help="Each costs what the LoRAs of its people cost.")] = 24,
    people_at_once: Annotated[int, typer.Option(help="People of an episode.")] = 8,
    lr: Annotated[float, typer.Option(help="AdamW's rate of A, falling to nothing over the episodes.")] = 4e-3,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1...")] = "cpu",
) -> None:
    """Learn the A that a corpus's LoRAs start from, so that B alone gets far in few steps.

    Name the file as `start` in the settings of the corpus (`corpus.dreambooth.start` in params.yaml), with `freeze_a`.
    Stop it at any moment and call it again: at most the episode in training is lost.

    Example: difflora corpus start data/start.safetensors --people data/people --base assets/embedded/base
    """
    from difflora.corpus.allocator import keep_freed_memory
    from difflora.corpus.base import FrozenBase
    from difflora.corpus.people import PeopleFolder
    from difflora.corpus.settings import read_settings
    from difflora.corpus.start_learning import StartSettings, learn_start, of_folder, save_start
    from difflora.lora import LoraLayout
    from difflora.validation import validated

    how = validated(StartSettings, {"episodes": episodes, "people_at_once": people_at_once, "lr": lr}, "start")
    chosen, folder = read_settings(settings, {}), PeopleFolder(people)
    keep_freed_memory()
    frozen = FrozenBase.open(base, base_name, device=device, precision=chosen.precision)
    layout = LoraLayout.from_unet(frozen.unet, chosen.targets, chosen.rank)
    source = of_folder(frozen, folder, chosen, how)
    learnt = learn_start(frozen, layout, source, chosen, how, checkpoint=out.parent / f".{out.name}.checkpoint")
    save_start(out, learnt, layout, frozen.name, chosen.scale)
    typer.echo(f"{out}: learnt in {learnt.seconds:.0f} s; the loss of the last episode is {learnt.losses[-1]:.4f}")


@corpus.command()
def verify(folder: Folder) -> None:
    """Read every row and compare it with its sha256.

    The first damaged row, line or file is an error that names it.

    Example: difflora corpus verify data/corpus
    """
    from difflora.corpus.reader import Corpus
    from difflora.corpus.stats import verify_corpus

    checked = Corpus.open(folder)
    rows = verify_corpus(checked, progress=True)
    typer.echo(f"{folder}: {rows} LoRAs of {checked.layout.size} parameters are as they were written")


@corpus.command()
def stats(
    folder: Folder,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON too.")] = None,
) -> None:
    """Say what a corpus is like: splits, losses, norms.

    Example: difflora corpus stats data/corpus --json outputs/corpus.json
    """
    from difflora.corpus.reader import Corpus
    from difflora.corpus.stats import corpus_stats
    from difflora.files import write_json

    if json is not None and json.is_dir():
        raise BadParameter(f"{json} is a folder: give the name of a file for --json")
    figures = corpus_stats(Corpus.open(folder))
    for key, value in figures.items():
        typer.echo(f"{key:12s} {_words(value)}")
    if json is not None:
        write_json(json, figures)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(str(inner) for inner in value) + "  (least, quartiles, most)"
    return str(value)
