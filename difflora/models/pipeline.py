"""One picture of a person in, a LoRA out: encoders, transformer, scheduler and autoencoder as a diffusers pipeline.

pipe = DiffLoRAPipeline.from_pretrained("models/difflora")
lora = pipe("me.jpg", num_inference_steps=100, generator=torch.Generator().manual_seed(0)).lora
lora.save("me.safetensors")
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.pictures import PictureSource, read_picture
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.folders import read_json, whole_folder
from difflora.lora import LoraWeights
from difflora.lora.weights import check_scale
from difflora.models.dit import LoraTransformer
from difflora.models.encoder_files import load_encoders, save_encoders
from difflora.models.lae import LoraAutoencoder
from difflora.models.parts import check_parts, load_scheduler
from difflora.models.portable import PortableConfig, load_model
from difflora.models.sampling import CALLBACK_TENSORS, check_steps, mean_feature, sample_latents

SeveralFaces = Literal["largest", "error"]

StepCallback = Callable[["DiffLoRAPipeline", int, int, dict[str, Tensor]], Mapping[str, Tensor]]
"""As in diffusers: told the pipeline, a step's number, its timestep and tensors, it gives the tensors back."""


@dataclass
class DiffLoRAOutput(BaseOutput):
    """What a call gives.

    Attributes:
        lora: the person's LoRA, on the CPU, float32.
        seconds: wall time of each part: ``encode``, ``sample``, ``decode``, and their sum ``total``.
    """

    lora: LoraWeights
    seconds: dict[str, float]


class DiffLoRAPipeline(PortableConfig, DiffusionPipeline):
    """DiffLoRA's inference (paper, 3.1): one reference image, DDIM, a LoRA.

    The call's defaults belong to the model and are stored with it.

    Args:
        lae: the autoencoder.
        transformer: the DiT.
        scheduler: DDIM; ``DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)`` may take its place.
        face_encoder: InsightFace, or whole pictures where subjects are no people; None where pictures never come in.
        image_encoder: CLIP; None likewise.
        num_inference_steps: default of a call.
        guidance_scale: default of a call.
        strength: default of a call.
        scale: how strongly whoever merges a LoRA is advised to apply it.
        version: of the model, for the LoRAs' provenance.
        class_words: what prompts called the people that it learnt from, with commas between: man, woman; the most
            frequent first, empty where that is not known.

    Raises:
        BadParameter: if the parts do not fit together, or the scheduler would clip latents.
    """

    model_cpu_offload_seq = "transformer->lae"
    _callback_tensor_inputs: ClassVar[list[str]] = list(CALLBACK_TENSORS)

    def __init__(
        self,
        lae: LoraAutoencoder,
        transformer: LoraTransformer,
        scheduler: Any,
        face_encoder: SubjectEncoder | None = None,
        image_encoder: CLIPImageEncoder | None = None,
        num_inference_steps: int = 100,
        guidance_scale: float = 1.0,
        strength: float = 1.0,
        scale: float = 1.0,
        version: str = "",
        class_words: str = "",
    ) -> None:
        super().__init__()
        check_parts(lae, transformer, scheduler, face_encoder, image_encoder)
        self.register_modules(lae=lae, transformer=transformer, scheduler=scheduler)
        self.register_to_config(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            strength=strength,
            scale=scale,
            version=version,
            class_words=class_words,
        )
        self.face_encoder, self.image_encoder = face_encoder, image_encoder

    def save_pretrained(self, save_directory: str | Path, *, encoders: bool = True, **kwargs: Any) -> None:
        """Writes the whole pipeline; the folder is there whole, or stays as it was.

        Args:
            save_directory: the folder.
            encoders: whether the encoders' files go into it; mind their licences.
            **kwargs: see diffusers; only safetensors are written.
        """
        with whole_folder(Path(save_directory)) as folder:
            super().save_pretrained(folder, **{**kwargs, "safe_serialization": True})
            save_encoders(folder, self.face_encoder, self.image_encoder, copy=encoders)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        face_encoder: SubjectEncoder | None = None,
        image_encoder: CLIPImageEncoder | None = None,
        device: str | torch.device = "cpu",
        **kwargs: Any,
    ) -> Self:
        """Loads a pipeline from a local folder, checking all of it.

        Args:
            pretrained_model_name_or_path: what ``save_pretrained`` wrote.
            face_encoder: to use instead of the stored one; its files must be the same.
            image_encoder: likewise.
            device: where the models compute.
            **kwargs: other values for the pipeline's own settings, such as ``strength``.

        Raises:
            BadFile: if a file is missing, damaged or of something else.
            BadParameter: if the parts or the given encoders do not fit together.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            raise BadFile(f"{folder}: no such folder; give the local folder of a DiffLoRA pipeline")
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != cls.__name__:
            raise BadFile(f"{folder}/model_index.json: is of a {index.get('_class_name')}, not a {cls.__name__}")
        face, image = load_encoders(folder, device, face_encoder, image_encoder)
        settings = {name: index[name] for name in cls._get_signature_keys(cls)[1] if name in index}
        try:
            return cls(
                load_model(LoraAutoencoder, folder / "lae", device),
                load_model(LoraTransformer, folder / "transformer", device),
                load_scheduler(folder / "scheduler"),
                face,
                image,
                **{**settings, **kwargs},
            )
        except TypeError as error:
            raise BadParameter(f"{folder}: {error}; see DiffLoRAPipeline for what it takes") from error

    def embed(
        self, images: Sequence[PictureSource], *, several_faces: SeveralFaces = "largest"
    ) -> tuple[Tensor, Tensor]:
        """E_face and E_img of N pictures.

        Args:
            images: paths, bytes of files, or PIL images.
            several_faces: whether the largest face of a picture is taken, or several are an error.

        Returns:
            (N, Df) and (N, Di) float32 unit vectors, on the models' device.

        Raises:
            BadImage: if a picture is unusable, or shows no face; the number of faces is named.
            BadParameter: if the pipeline has no encoders.
        """
        if several_faces not in ("largest", "error"):
            raise BadParameter(f"several_faces is {several_faces!r}: give largest or error")
        if self.face_encoder is None or self.image_encoder is None:
            raise BadParameter(
                "this pipeline has no encoders: give face_encoder and image_encoder to from_pretrained, "
                "the same that the model was trained with"
            )
        names = [str(one) if isinstance(one, str | Path) else f"picture {i}" for i, one in enumerate(images)]
        pictures = [read_picture(one, name) for one, name in zip(images, names, strict=True)]
        found = self.face_encoder.encode(pictures, strict=several_faces == "error", names=names)
        for name, there in zip(names, found.found, strict=True):
            if not there:
                raise BadImage(f"{name}: 0 faces found; give a clear picture of one person, face to the camera")
        face = torch.from_numpy(found.embeddings).to(self.device)  # (N, Df)
        return face, self.image_encoder(pictures).to(self.device)  # (N, Di)

    def generate(
        self,
        face: Tensor,
        image: Tensor,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator],
        strength: float | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> tuple[Tensor, dict[str, float]]:
        """Flat LoRAs of P people from their features; see ``__call__`` for the rest.

        Args:
            face: (P, Df) unit vectors, on the models' device.
            image: (P, Di) unit vectors.
            num_inference_steps: None for the model's default.
            guidance_scale: None for the model's default.
            generator: one, or one for each person.
            strength: None for the model's default.
            callback_on_step_end: see ``__call__``.
            callback_on_step_end_tensor_inputs: see ``__call__``.

        Returns:
            (P, D) float32 on the CPU, and seconds of ``sample`` and ``decode``.
        """
        told = callback_on_step_end
        steps = int(self._or_default("num_inference_steps", num_inference_steps))
        check_steps(self.scheduler, steps)
        started = time.perf_counter()
        with self.progress_bar(total=steps) as bar:
            latents = sample_latents(
                self.transformer,
                self.scheduler,
                face,
                image,
                num_inference_steps=steps,
                guidance_scale=self._or_default("guidance_scale", guidance_scale),
                generator=generator,
                on_step=bar.update,
                on_step_end=None if told is None else lambda step, timestep, seen: told(self, step, timestep, seen),
                on_step_end_tensors=callback_on_step_end_tensor_inputs,
            )
        self._wait()
        sampled = time.perf_counter()
        with torch.no_grad():
            flat = self.lae.decode(latents, self._or_default("strength", strength)).cpu()  # (P, D)
        return flat, {"sample": sampled - started, "decode": time.perf_counter() - sampled}

    @torch.no_grad()
    def __call__(
        self,
        image: PictureSource | Sequence[PictureSource],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        strength: float | None = None,
        scale: float | None = None,
        *,
        several_faces: SeveralFaces = "largest",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> DiffLoRAOutput:
        """Makes the LoRA of the person in a picture.

        Args:
            image: a path, a file's bytes or a PIL image (JPEG, PNG, WebP); or a list of pictures of the same person,
                whose features are averaged.
            num_inference_steps: of the sampler; None for the model's default.
            guidance_scale: of classifier-free guidance, 1 for none; None for the model's default.
            generator: draws the noise; None for a seed of its own, which the LoRA's provenance tells.
            strength: S of ``mean + S (V - mean)`` (see ``LoraAutoencoder.decode``); None for the model's default.
            scale: how strongly whoever merges the LoRA is advised to apply it; None for the model's default.
            several_faces: ``largest`` takes the largest face of a picture, ``error`` refuses several.
            callback_on_step_end: called as ``callback(pipe, step, timestep, tensors)`` after each step of the sampler;
                gives the tensors back, and its ``latents`` take the place of the sampler's.
            callback_on_step_end_tensor_inputs: what it is told: ``latents`` (x_t after the step, (1, Z)) and
                ``pred_original_sample`` (x0 as it was predicted in the step).

        Returns:
            The LoRA, and the seconds of each part.

        Raises:
            BadImage: if a picture is unusable, shows no face or, if asked, several.
            BadParameter: if a number is out of range or the result is not finite.
        """
        images = list(image) if isinstance(image, Sequence) and not isinstance(image, str | bytes) else [image]
        if not images:
            raise BadImage("no picture was given; give one, or a list of pictures of one person")
        check_scale(self._or_default("scale", scale))
        if generator is None:
            generator = torch.Generator()
            generator.seed()
        started = time.perf_counter()
        face, features = (mean_feature(part) for part in self.embed(images, several_faces=several_faces))
        self._wait()
        encoded = time.perf_counter() - started
        choice: dict[str, Any] = {
            "num_inference_steps": int(self._or_default("num_inference_steps", num_inference_steps)),
            "guidance_scale": self._or_default("guidance_scale", guidance_scale),
            "strength": self._or_default("strength", strength),
        }
        flat, seconds = self.generate(
            face,
            features,
            generator=generator,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            **choice,
        )
        seconds = {"encode": encoded, **seconds}
        seconds["total"] = sum(seconds.values())
        provenance = {
            "model": str(self.config.version),
            "seed": str(generator.initial_seed()),
            "sampler": type(self.scheduler).__name__,
            "references": str(len(images)),
            "reference_sha256": hashlib.sha256(face.float().cpu().numpy().tobytes()).hexdigest(),
            **{name: str(value) for name, value in choice.items()},
        }
        return DiffLoRAOutput(lora=self.to_lora(flat[0], provenance, scale), seconds=seconds)

    def to_lora(
        self, flat: Tensor, provenance: dict[str, str] | None = None, scale: float | None = None
    ) -> LoraWeights:
        """A flat vector (D,) as weights for the base model that the autoencoder was trained for.

        Raises:
            BadParameter: if a number is not finite, or the scale is out of its range.
        """
        lae = self.lae
        alpha, prompt = float(lae.config.alpha), str(lae.config.trigger_prompt)
        advised = self._or_default("scale", scale)
        return LoraWeights(lae.layout, flat, lae.base, alpha, advised, prompt, provenance or {})

    def _or_default(self, name: str, value: float | None) -> float:
        return float(self.config[name] if value is None else value)

    def _wait(self) -> None:
        """Until a GPU has done what it was told, so that seconds are those of the part."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
