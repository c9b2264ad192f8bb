"""Whether weights are there, whole, of the right kind, and the ones that were seen before."""

from __future__ import annotations

from pathlib import Path

from difflora.encoders.image_reward import ImageReward
from difflora.encoders.pack import open_pack
from difflora.encoders.recogniser import FaceRecogniser
from difflora.errors import BadFile
from difflora.folders import check_model_folder, read_json
from difflora.photomaker.file import PhotoMakerFile
from difflora.weights.catalogue import PACKS
from difflora.weights.lock import Lock, SeenFile
from difflora.weights.need import Need, refuse_pickle
from difflora.weights.networks import check_shapes, header, meta_network

_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_NETWORKS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_NETWORKS |= {"text_encoder": "model", "text_encoder_2": "model"}
_TOKENIZERS = ("tokenizer", "tokenizer_2")


def check_need(need: Need, root: Path, lock: Lock) -> dict[str, SeenFile]:
    """Looks one need over: format and headers first, then every file's sha256.

    Args:
        need: what there must be.
        root: where relative paths begin.
        lock: what earlier checks saw; it is not changed.

    Returns:
        Name -> file, of everything that will be read.

    Raises:
        BadFile: if something is missing, a pickle, cut short, of another kind or changed; the file is named.
    """
    place = root / need.path
    if not place.exists() or (not place.is_dir() and place.suffix != ".safetensors"):
        for path in need.pickles(root):
            raise refuse_pickle(path)
    if not place.exists():
        raise BadFile(f"{place}: not there; {need.advice()}")
    match need.kind:
        case "pipeline":
            files = _pipeline(need, root)
        case "single file":
            files = _single_file(place, root / (need.config or Path()))
        case "face pack":
            files = _pack(place)
        case "CLIP" | "DINO":
            files = _transformers(need, root)
        case "ImageReward":
            ImageReward(place)
            files = [place / "model.safetensors", place / "vocab.txt"]
        case "face recogniser":
            FaceRecogniser.open(place)
            files = [place]
        case "PhotoMaker":
            PhotoMakerFile.open(place)
            files = [place]
    seen = {file.name: file for file in (lock.see(root, path) for path in files)}
    if gone := lock.missing(need.path.as_posix(), seen):
        raise BadFile(f"{gone}: was there when {lock.path} was written and is not now; restore it")
    return seen


def _pipeline(need: Need, root: Path) -> list[Path]:
    """Files of a diffusers folder, each network compared with its own configuration."""
    folder = root / need.path
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") not in _PIPELINES:
        raise BadFile(f"{folder}: a {index.get('_class_name')}; give one of {', '.join(_PIPELINES)}")
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in _TOKENIZERS:
        if _has(index, part):
            files += _tokenizer(folder / part)
    for part, name in _NETWORKS.items():
        if _has(index, part):
            config = folder / part / "config.json"
            files.append(config)
            if need.weights:
                weights = _weights(need, root, folder / part, f"{name}.safetensors")
                check_shapes(meta_network(read_json(config), str(config)), weights)
                files += weights
    for path in files:
        if not path.is_file():
            raise BadFile(f"{path}: no such file; {need.advice()}")
    return files


def _has(index: dict[str, object], part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and entry[-1] is not None


def _tokenizer(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".txt"))
    if not any(path.name in ("vocab.json", "tokenizer.json") for path in files):
        raise BadFile(f"{folder}: holds no tokenizer (vocab.json and merges.txt, or tokenizer.json); restore it")
    return files


def _weights(need: Need, root: Path, folder: Path, name: str) -> list[Path]:
    """The safetensors of a network, one or shards, with their index."""
    index = folder / f"{name}.index.json"
    if not (folder / name).is_file() and not index.is_file():
        for path in need.pickles(root):
            if path.parent == folder:
                raise refuse_pickle(path)
    check_model_folder(folder, name)
    if index.is_file():
        return [folder / each for each in sorted(set(read_json(index)["weight_map"].values()))]
    return [folder / name]


def _single_file(file: Path, config: Path) -> list[Path]:
    """A checkpoint, its UNet compared with the configuration beside it."""
    if file.suffix != ".safetensors":
        raise refuse_pickle(file)
    where = config / "unet" / "config.json"
    header(file)
    check_shapes(meta_network(read_json(where), str(where)), [file], single_file=True)
    return [file]


def _pack(folder: Path) -> list[Path]:
    """Detector and recogniser of a face pack, opened as the chain opens them."""
    for name in PACKS.get(folder.name, ()):
        if not (folder / name).is_file():
            raise BadFile(f"{folder / name}: no such file; the pack {folder.name} has one, unpack it again")
    app = open_pack(folder.parent.parent, folder.name)
    return sorted(Path(model.model_file) for model in app.models.values())


def _transformers(need: Need, root: Path) -> list[Path]:
    """A folder of a CLIP or DINO, compared with its configuration."""
    folder = root / need.path
    weights = _weights(need, root, folder, "model.safetensors")
    config = folder / "config.json"
    check_shapes(meta_network(read_json(config), str(config)), weights)
    names = ("config.json", "preprocessor_config.json", "processor_config.json")
    return [*(folder / name for name in names if (folder / name).is_file()), *weights]
