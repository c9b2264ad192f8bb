"""A step of the autoencoder and of the diffusion transformer, and a personalisation, on LoRAs of nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.clock import Row, measure
from benchmarks.sizes import Setup
from difflora.corpus.base import DTYPES
from difflora.corpus.reader import Corpus
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.errors import DiffLoRAError
from difflora.lora import LoraLayout
from difflora.models import DiffLoRAPipeline, LoraAutoencoder, LoraTransformer, make_scheduler
from difflora.models.sampling import sample_latents
from difflora.plan.counted import FACE_DIM, IMAGE_DIM
from difflora.training import ConditionFeatures, LoopSettings
from difflora.training.batches import Batches
from difflora.training.lae import LaeTask
from difflora.training.loop import step_once
from difflora.training.on_latents import DitTask
from difflora.training.rows import LoraRows
from difflora.training.state import TrainingState


def random_corpus(folder: Path, layout: LoraLayout, count: int) -> Corpus:
    """LoRAs of nobody on the disk, all of the split train."""
    generator = torch.Generator().manual_seed(0)
    with CorpusWriter(folder, layout, {"random": count}) as writer:
        for place in range(count):
            flat = 0.02 * torch.randn(layout.size, generator=generator)
            writer.append([NewRow(f"nobody-{place}", "train", "person", flat, 0, 1, 0.0)])
        writer.finish()
    return Corpus.open(folder)


def make_lae(setup: Setup) -> LoraAutoencoder:
    """An untrained autoencoder on the device."""
    chosen = setup.params.lae
    lae: LoraAutoencoder = LoraAutoencoder.build(setup.layout, chosen.model, chosen.normalisation)
    return lae.to(setup.device)


def make_transformer(setup: Setup, latent_size: int) -> LoraTransformer:
    """An untrained transformer on the device."""
    values = setup.params.dit.model.model_dump(mode="json")
    transformer: LoraTransformer = LoraTransformer(latent_size, FACE_DIM, IMAGE_DIM, values)
    return transformer.to(setup.device)


def features(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Unit vectors in the place of E_face (N, Df) and E_img (N, Di)."""
    generator = torch.Generator().manual_seed(1)
    face, image = (torch.randn(count, size, generator=generator) for size in (FACE_DIM, IMAGE_DIM))
    return F.normalize(face, dim=1).to(device), F.normalize(image, dim=1).to(device)


def stepper(task: nn.Module, names: list[str], loop: LoopSettings, device: torch.device) -> Callable[[], None]:
    """Gives what takes one optimisation step after another, as the training loop does."""
    accelerator = Accelerator(cpu=device.type == "cpu")
    state = TrainingState(task.to(device).train(), loop)
    network, optimizer = accelerator.prepare(task, state.optimizer)
    batches = Batches(names, loop.batch_size, loop.seed, device)
    done = 0

    def step() -> None:
        nonlocal done
        losses = step_once(network, batches[done], state, optimizer, loop, accelerator)
        done += 1
        if not bool(losses["loss"].isfinite()):
            raise DiffLoRAError(f"the loss of step {done - 1} is not finite: these sizes and types do not train")

    return step


def lae_rows(setup: Setup) -> Iterator[Row]:
    """A step of the autoencoder."""
    loop, chosen = setup.params.lae.loop, setup.params.lae
    with tempfile.TemporaryDirectory() as folder:
        rows = LoraRows(random_corpus(Path(folder) / "corpus", setup.layout, max(2, loop.batch_size)), "train")
        lae = make_lae(setup)
        lae.fit_normalisation(rows)
        step = stepper(LaeTask(lae, rows, chosen), rows.names, loop, setup.device)
        took = measure(step, setup.device, setup.rounds)
    case = f"{setup.layout.size:,} numbers, batch {loop.batch_size}, {loop.precision}"
    yield setup.row("lae", case, "eager", took, setup.expected_gib("lae"))


def dit_rows(setup: Setup) -> Iterator[Row]:
    """A step of the transformer on random latents."""
    loop, chosen = setup.params.dit.loop, setup.params.dit
    with torch.device("meta"):
        lae: LoraAutoencoder = LoraAutoencoder.build(
            setup.layout, setup.params.lae.model, setup.params.lae.normalisation
        )
    size, count = lae.latent_size, max(2, loop.batch_size)
    latents = torch.randn(count, size, generator=torch.Generator().manual_seed(2)).to(setup.device)
    names = [f"nobody-{place}" for place in range(count)]
    face, image = features(count, setup.device)
    seen = ConditionFeatures(tuple(names), face, image, torch.ones(count, dtype=torch.int64, device=setup.device))
    transformer = make_transformer(setup, size)
    step = stepper(DitTask(transformer, latents, seen, chosen), names, loop, setup.device)
    took = measure(step, setup.device, setup.rounds)
    case = f"{chosen.model.layers} layers x {chosen.model.width}, batch {loop.batch_size}, {loop.precision}"
    yield setup.row("dit", case, "eager", took, setup.expected_gib("dit"))


def personalize_rows(setup: Setup) -> Iterator[Row]:
    """Features to a LoRA: DDIM and decoding; then DDIM alone in each of the ways that the machine has."""
    device, kind = setup.device, setup.params.dit.model.prediction_type
    lae = make_lae(setup).train(False)
    transformer = make_transformer(setup, lae.latent_size).train(False)
    scheduler = make_scheduler(setup.params.dit.noise, kind)
    yield _generating(setup, DiffLoRAPipeline(lae, transformer, scheduler))
    del lae
    face, image = features(1, device)
    network = InType(transformer, DTYPES[setup.params.dit.loop.precision])
    for name, called in sampling_methods(setup, network, face, image):

        def sample(called: Any = called) -> None:
            generator = torch.Generator().manual_seed(0)
            sample_latents(called, scheduler, face, image, num_inference_steps=setup.steps, generator=generator)

        took = measure(sample, device, setup.rounds)
        case = f"{setup.steps} DDIM steps, {setup.params.dit.loop.precision}"
        yield setup.row("sample", case, name, took, _weights_gib(transformer))


def _generating(setup: Setup, pipeline: DiffLoRAPipeline) -> Row:
    pipeline.set_progress_bar_config(disable=True)
    face, image = features(1, setup.device)

    def generate() -> None:
        pipeline.generate(face, image, num_inference_steps=setup.steps, generator=torch.Generator().manual_seed(0))

    took = measure(generate, setup.device, setup.rounds)
    expected = _weights_gib(pipeline.lae) + _weights_gib(pipeline.transformer)
    return setup.row("personalize", f"{setup.steps} DDIM steps and decoding, fp32", "eager", took, expected)


def _weights_gib(network: nn.Module) -> float:
    return sum(parameter.numel() * parameter.itemsize for parameter in network.parameters()) / 2**30


class InType(nn.Module):
    """A transformer that computes in a type of its own, called with float32 as the sampler does.

    Args:
        transformer: turned into the type, in place.
        dtype: the type.
    """

    def __init__(self, transformer: LoraTransformer, dtype: torch.dtype) -> None:
        super().__init__()
        nn.Module.to(transformer, dtype)
        self.inner, self.config, self._dtype = transformer, transformer.config, dtype

    def forward(self, latents: Tensor, timesteps: Tensor, face: Tensor, image: Tensor) -> Tensor:
        """(B, Z), (B,), (B, Df), (B, Di) -> (B, Z) float32."""
        made: Tensor = self.inner(latents.to(self._dtype), timesteps, face.to(self._dtype), image.to(self._dtype))
        return made.float()


class Graphed:
    """A network's forward pass recorded once as a CUDA graph and replayed; for inputs of the same shapes.

    Args:
        network: with ``config``, under no gradients.
        inputs: on the GPU.
    """

    def __init__(self, network: InType, *inputs: Tensor) -> None:
        self.config = network.config
        self._inputs = [each.clone() for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(3):  # libraries set themselves up outside of the recording
                network(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._output = network(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The network's output."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output.clone()


def sampling_methods(setup: Setup, network: InType, face: Tensor, image: Tensor) -> Iterator[tuple[str, Any]]:
    """The network as it is, compiled, and as a CUDA graph, as far as the machine has them."""
    yield "eager", network
    if setup.compile:
        compiled = torch.compile(network, dynamic=False)
        yield "torch.compile", compiled
    if setup.device.type == "cuda":
        latents = torch.zeros(1, int(network.config.latent_size), device=setup.device)
        timesteps = torch.zeros(1, dtype=torch.int64, device=setup.device)
        yield "CUDA graph", Graphed(network, latents, timesteps, face, image)
