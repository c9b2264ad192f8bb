"""What a parameter file needs and no step makes: the weights that users bring."""

from __future__ import annotations

from pathlib import Path

from difflora.stages.params import HubParams, Params
from difflora.weights.catalogue import BYTES, DATA, Licence
from difflora.weights.need import Need

_PHOTOMAKER = "photomaker"
_REWARD = "difflora.encoders.image_reward:ImageReward"


def needs_of(params: Params) -> list[Need]:
    """Everything, in the order of ``params.yaml``."""
    models = params.models
    base, file = models.base, models.base.file
    found = [Need("models.base.folder", "pipeline", base.folder, *_hub(base.hub), weights=file is None)]
    if file is not None:
        found.append(Need("models.base.file", "single file", file, config=base.folder))
    faces = models.faces
    if faces.pack is not None:
        found.append(Need("models.faces.folder", "face pack", faces.folder / "models" / faces.pack))
    elif faces.folder != models.images:
        found.append(Need("models.faces.folder", "CLIP", faces.folder))
    found.append(Need("models.images", "CLIP", models.images, *_hub(models.images_hub)))
    weights = params.identities.options.get(_PHOTOMAKER)
    if isinstance(weights, str):
        found.append(Need(f"identities.options.{_PHOTOMAKER}", "PhotoMaker", Path(weights)))
    if params.evaluate.independent is not None:
        found.append(Need("evaluate.independent", "face recogniser", params.evaluate.independent))
    metrics, seen = params.evaluate.metrics, {need.path for need in found}
    if metrics.dino is not None:
        found.append(Need("evaluate.metrics.dino", "DINO", metrics.dino))
    if metrics.clip is not None and metrics.clip not in seen:
        found.append(Need("evaluate.metrics.clip", "CLIP", metrics.clip))
    if metrics.reward == _REWARD and "folder" in metrics.reward_options:
        found.append(Need("evaluate.metrics.reward_options", "ImageReward", Path(metrics.reward_options["folder"])))
    return found


def data_licences(params: Params) -> list[Licence]:
    """Licences of data sets that the image source's options name."""
    words = str(params.identities.options).lower()
    return [licence for word, licence in DATA.items() if word in words]


def weights_bytes(params: Params, root: Path, base_parameters: int) -> float:
    """Bytes of all weights: of the files where they are, else as they are published."""
    total = 0.0
    for need in needs_of(params):
        place = root / need.path
        if place.exists():
            files = [place] if place.is_file() else place.rglob("*")
            total += sum(path.stat().st_size for path in files if path.suffix in (".safetensors", ".onnx"))
        elif need.kind == "pipeline":
            total += 4.0 * base_parameters * need.weights
        else:
            total += BYTES.get(need.hub or need.path.name, 0)
    return total


def _hub(hub: HubParams | None) -> tuple[str | None, str | None]:
    return (None, None) if hub is None else (hub.name, hub.revision)
