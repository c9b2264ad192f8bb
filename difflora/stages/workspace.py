"""Where a chain's outputs lie, and what several of its steps open."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.subject import SubjectEncoder
from difflora.encoders.whole import WholePictureEncoder
from difflora.errors import BadFile
from difflora.files import sha256_file
from difflora.manifest import check_manifest
from difflora.models import DiffLoRAPipeline
from difflora.stages.params import Params


@dataclass(frozen=True)
class Workspace:
    """The folders of one chain.

    Attributes:
        root: the folder that ``params.yaml`` lies in.
        params: all parameters.
    """

    root: Path
    params: Params

    @property
    def people(self) -> Path:
        """Output of ``identities``."""
        return self.root / "data" / "people"

    @property
    def corpus(self) -> Path:
        """Output of ``corpus``."""
        return self.root / "data" / "corpus"

    @property
    def parts(self) -> Path:
        """Batches of the corpus that were trained elsewhere; gone once the corpus holds them."""
        return self.root / "data" / "parts"

    @property
    def class_pictures(self) -> Path:
        """What the base draws for prior preservation, of nobody in particular; made again where it is missing."""
        return self.root / "data" / "class_pictures"

    @property
    def incoming(self) -> Path:
        """New people's pictures, a folder and a consent record each."""
        return self.root / "data" / "incoming"

    @property
    def features(self) -> Path:
        """Output of ``dit``: what the training people's pictures condition on."""
        return self.root / "data" / "features.safetensors"

    @property
    def lae(self) -> Path:
        """Output of ``lae``: the autoencoder as it was trained on weights."""
        return self.root / "models" / "lae"

    @property
    def dit(self) -> Path:
        """Output of ``dit``: the pipeline without encoders."""
        return self.root / "models" / "dit"

    @property
    def model(self) -> Path:
        """Output of ``register``: the pipeline as it is shipped."""
        return self.root / "models" / "difflora"

    def report(self, name: str) -> Path:
        """A file of figures."""
        return self.root / "reports" / name

    def open_people(self) -> PeopleFolder:
        """The people.

        Raises:
            BadFile: if they were not made yet, or are damaged.
        """
        return PeopleFolder(self.there(self.people, "identities"))

    def open_corpus(self) -> Corpus:
        """The LoRAs.

        Raises:
            BadFile: if they were not made yet, or are damaged.
        """
        return Corpus.open(self.there(self.corpus, "corpus"))

    def also_learnt_from(self, people: PeopleFolder, corpus: Corpus) -> list[str]:
        """Training people without a LoRA, whose pictures a training through the base model learns from."""
        return [identity for identity in people.split("train") if identity not in corpus.places]

    def open_base(self) -> FrozenBase:
        """The base model, in the corpus's precision."""
        models = self.params.models
        return FrozenBase.open(
            models.base.folder,
            models.base.name,
            file=models.base.file,
            device=models.device,
            precision=self.params.corpus.dreambooth.precision,
        )

    def open_faces(self) -> SubjectEncoder:
        """The face pack, or a CLIP that sees whole pictures where there is none."""
        faces, device = self.params.models.faces, self.params.models.device
        if faces.pack is None:
            return WholePictureEncoder(CLIPImageEncoder(faces.folder, device=device))
        return InsightFaceEncoder(
            faces.folder,
            faces.pack,
            det_size=(faces.det_size, faces.det_size),
            det_thresh=faces.det_thresh,
            provider="CUDA" if device.startswith("cuda") else "CPU",
        )

    def open_images(self) -> CLIPImageEncoder:
        """CLIP."""
        return CLIPImageEncoder(self.params.models.images, device=self.params.models.device)

    def there(self, folder: Path, stage: str) -> Path:
        """A folder that an earlier step makes.

        Raises:
            BadFile: if it was not made yet.
        """
        if not folder.is_dir():
            raise BadFile(f"{folder}: no such folder; run `difflora stage {stage}` first")
        return folder

    def start(self) -> DiffLoRAPipeline | None:
        """The pipeline that LAE and DiT go on from; None where they start anew.

        Raises:
            BadFile: if it is not there, or not what its manifest says.
        """
        if self.params.continue_from is None:
            return None
        folder = self.root / self.params.continue_from
        if not folder.is_dir():
            raise BadFile(
                f"{folder}: no such folder, though continue_from names it; fetch it with `difflora registry fetch`, or "
                "set continue_from to null"
            )
        check_manifest(folder)
        return DiffLoRAPipeline.from_pretrained(
            folder, face_encoder=self.open_faces(), image_encoder=self.open_images(), device=self.params.models.device
        )

    @contextmanager
    def checkpoint(self, name: str, section: Mapping[str, Any], inputs: list[Path]) -> Iterator[Path]:
        """A folder for a training's checkpoints, of these settings and inputs alone; removed once the step is done.

        A step that was killed finds it again; one with other settings or inputs starts anew.

        Args:
            name: the step's.
            section: its parameters.
            inputs: files that tell its inputs.
        """
        digest = hashlib.sha256(json.dumps(section, sort_keys=True).encode())
        for path in inputs:
            digest.update(sha256_file(path).encode())
        parent = self.root / "data" / "checkpoints" / name
        yield parent / digest.hexdigest()[:16]
        shutil.rmtree(parent, ignore_errors=True)
