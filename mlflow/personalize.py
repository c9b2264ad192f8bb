r"""The registered model, as MLflow loads it from code: one photograph in, a LoRA file out.

difflora registry list
mlflow models serve -m models:/difflora@champion --env-manager local -p 5001
curl localhost:5001/invocations -H 'Content-Type: application/json' \
        -d "{\"inputs\": {\"image\": [\"$(base64 -w0 photo.jpg)\"]}, \"params\": {\"seed\": 7}}"
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from difflora.errors import BadImage, BadParameter
from difflora.manifest import NAME, check_manifest

logger = logging.getLogger(__name__)

_MOST_BYTES = 20 * 2**20
_MOST_IMAGES = 16


class Personalize(PythonModel):  # type: ignore[misc] # MLflow is not typed
    """A DiffLoRA pipeline behind MLflow's signature.

    Input: a column ``image``, each the base64 of a JPEG, PNG or WebP. Parameters: ``seed``, ``num_inference_steps``,
    ``guidance_scale``, ``strength`` and ``scale``, by default the model's own. Output, a row an image: ``lora``, the
    base64 of a safetensors file, and ``metadata``, a JSON object.
    """

    def load_context(self, context: Any) -> None:
        """Loads the pipeline, after every file was compared with the manifest and that with what was registered.

        Raises:
            BadFile: if a file was changed.
        """
        from difflora.errors import BadFile
        from difflora.files import sha256_file
        from difflora.models import DiffLoRAPipeline

        folder = Path(context.artifacts["pipeline"])
        check_manifest(folder)
        expected = (context.model_config or {}).get("manifest_sha256")
        if sha256_file(folder / NAME) != expected:
            raise BadFile(f"{folder / NAME}: is not the manifest that was registered; restore the model's folder")
        self._pipeline = DiffLoRAPipeline.from_pretrained(folder)
        self._pipeline.set_progress_bar_config(disable=True)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A LoRA of each picture.

        Raises:
            MlflowException: answered with status 400, if the request is malformed, a picture unusable or without a
                face, or an option out of range; the message says which. With 500 for all else.
        """
        images = list(model_input["image"])
        if not 1 <= len(images) <= _MOST_IMAGES:
            raise _refused(f"{len(images)} images in one request: give 1 to {_MOST_IMAGES}")
        options = dict(params or {})
        seed = int(options.pop("seed", 0))
        made = [self._one(f"image {place}", image, seed, options) for place, image in enumerate(images)]
        return pd.DataFrame(made, columns=["lora", "metadata"])

    def _one(self, name: str, image: str, seed: int, options: dict[str, Any]) -> tuple[str, str]:
        import torch

        data = _decoded(name, image)
        try:
            output = self._pipeline(data, generator=torch.Generator().manual_seed(seed), **options)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "lora.safetensors"
                output.lora.save(path)
                file = path.read_bytes()
        except (BadImage, BadParameter) as error:
            raise _refused(f"{name}: {error}") from error
        except (OverflowError, ValueError, TypeError) as error:
            raise _refused(f"{name}: {error}; look at the options") from error
        except Exception as error:  # MLflow would call it the request's fault
            logger.exception("%s", name)
            raise MlflowException(f"{name}: the server failed ({error}); read its log", INTERNAL_ERROR) from error
        lora = output.lora
        metadata = {
            **lora.provenance,
            "base": lora.base.model_dump() if lora.base else None,
            "rank": lora.layout.rank,
            "alpha": lora.alpha,
            "scale": lora.scale,
            "trigger_prompt": lora.trigger_prompt,
            "seconds": output.seconds,
        }
        return base64.b64encode(file).decode(), json.dumps(metadata)


def _decoded(name: str, image: Any) -> bytes:
    if not isinstance(image, str) or not image:
        raise _refused(f"{name}: is no text; give the base64 of a JPEG, PNG or WebP file")
    if len(image) > _MOST_BYTES * 4 // 3:
        raise _refused(f"{name}: is larger than {_MOST_BYTES >> 20} MiB; make the picture smaller")
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(f"{name}: is no base64 ({error}); encode the file's bytes, without line breaks") from error


def _refused(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=INVALID_PARAMETER_VALUE)


set_model(Personalize())
