"""The three formats of a LoRA: diffusers' file, peft's folder, kohya's file; each told from the others by content."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.files import load_safetensors, write_atomic, write_json
from difflora.folders import read_json, whole_folder
from difflora.lora import kohya_keys
from difflora.lora.adapter_settings import (
    CONFIG_NAME,
    METADATA_KEY,
    adapter_config,
    adapter_metadata,
    check_settings,
    read_adapter_metadata,
)
from difflora.lora.architecture import find_architecture
from difflora.lora.header import OWN, Header, read_metadata, to_bytes
from difflora.lora.layout import LoraLayout
from difflora.lora.modelspec import model_spec, sd_scripts_metadata
from difflora.lora.pairs import StoredPairs
from difflora.lora.peft_keys import PEFT_PREFIX, UNET_PREFIX, find_prefix, from_keys, to_keys

LoraFormat: TypeAlias = Literal["diffusers", "peft", "kohya"]
FORMATS: tuple[LoraFormat, ...] = get_args(LoraFormat)
SUFFIX = ".safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
_IN_FOLDER = (PEFT_WEIGHTS, "pytorch_lora_weights.safetensors")
_PEFT_FILES = {PEFT_WEIGHTS, CONFIG_NAME, "README.md"}


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A LoRA as it lies on the disk, opened but not validated.

    Attributes:
        path: its safetensors file.
        format: what its keys tell.
        tensors: key -> tensor.
        metadata: of the safetensors header.
    """

    path: Path
    format: LoraFormat
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, path: str | Path) -> LoraFile:
        """Opens a file, or the folder of a peft adapter or of diffusers' ``save_lora_weights``.

        Raises:
            BadFile: if there is none, it is no whole safetensors file, or it holds nothing.
        """
        path = _find(Path(path))
        tensors = load_safetensors(path)
        if not tensors:
            raise BadFile(f"{path}: holds no tensor; it is no LoRA")
        return cls(path, _tell_format(tensors), tensors, read_metadata(path))

    def pairs(self, layout: LoraLayout | None) -> StoredPairs:
        """The tensors by module.

        Args:
            layout: what the file must hold, where that is known.

        Raises:
            BadFile: naming the first key that is not of the file's format, alone, or not of a floating type.
        """
        if self.format == "kohya":
            return kohya_keys.from_kohya(self.tensors, layout, str(self.path))
        return from_keys(self.tensors, str(self.path))

    def alpha(self, layout: LoraLayout) -> float:
        """What the format's readers take alpha for: the rank, where the file does not say.

        Raises:
            BadFile: if the settings cannot be read, do not fit the tensors, or are more than one rank and one alpha.
        """
        where, names = str(self.path), [module.name for module in layout.modules]
        if self.format == "kohya":
            return kohya_keys.alpha_of(self.tensors, layout.rank, where)
        prefix = find_prefix(self.tensors, where)
        found: dict[str, float] = {}
        if METADATA_KEY in self.metadata:
            settings = read_adapter_metadata(self.metadata[METADATA_KEY], prefix, where)
            key = f"{where}: {METADATA_KEY}"
            found[key] = check_settings(settings, names, layout.rank, key)
        if self.format == "peft":
            beside = self.path.with_name(CONFIG_NAME)
            names = [f"{prefix.removeprefix(PEFT_PREFIX)}{name}" for name in names]
            found[str(beside)] = check_settings(read_json(beside), names, layout.rank, str(beside))
        if len(set(found.values())) > 1:
            first, second = found.items()
            raise BadFile(f"{second[0]}: lora_alpha is {second[1]:g}, {first[1]:g} in {first[0]}; restore one of them")
        return next(iter(found.values()), float(layout.rank))


def to_tensors(lora_format: LoraFormat, flat: Tensor, layout: LoraLayout, alpha: float) -> dict[str, Tensor]:
    """The tensors of a flat vector (D,) as a format keeps them.

    Raises:
        BadParameter: if the format has no name for a module.
    """
    if lora_format == "kohya":
        return kohya_keys.to_kohya(flat, layout, alpha)
    return to_keys(flat, layout, PEFT_PREFIX if lora_format == "peft" else UNET_PREFIX)


def store(
    path: Path, lora_format: LoraFormat, tensors: Mapping[str, Tensor], header: Header, layout: LoraLayout
) -> None:
    """Writes a LoRA: one file, or peft's folder; whole or not at all."""
    metadata = {"format": "pt", OWN: header.model_dump_json()}
    if lora_format == "kohya":
        architecture = find_architecture(layout)
        assert architecture is not None  # to_tensors refused it
        metadata |= sd_scripts_metadata(header, layout, architecture)
        metadata |= model_spec(header, layout, architecture.ldm_names)
    else:
        prefix = PEFT_PREFIX if lora_format == "peft" else UNET_PREFIX
        metadata |= adapter_metadata(layout, header.alpha, prefix) | model_spec(header, layout)
    data = to_bytes(tensors, metadata)
    if lora_format != "peft":
        write_atomic(path, data)
        return
    with whole_folder(path.absolute()) as folder:
        write_atomic(folder / PEFT_WEIGHTS, data)
        base = header.base.name if header.base else None
        write_json(folder / CONFIG_NAME, adapter_config(layout, header.alpha, base))


def check_target(path: Path, lora_format: LoraFormat) -> None:
    """Looks whether a format can be written to a path, before any work.

    Raises:
        BadParameter: if the format is unknown, a file would not be found by its readers, or a folder holds other files.
    """
    if lora_format not in FORMATS:
        raise BadParameter(f"{path}: format is {lora_format!r}; give one of {', '.join(FORMATS)}")
    if lora_format != "peft":
        if path.suffix != SUFFIX:
            raise BadParameter(f"{path}: a LoRA file ends in {SUFFIX}, or diffusers does not find it")
        if path.is_dir():
            raise BadParameter(f"{path}: is a folder; give the name of a file")
        return
    if path.suffix == SUFFIX or (path.exists() and not path.is_dir()):
        raise BadParameter(f"{path}: peft's format is a folder; give the name of one")
    if path.is_dir() and (others := sorted({file.name for file in path.iterdir()} - _PEFT_FILES)):
        raise BadParameter(f"{path}: holds {others[0]}, which is no adapter's; give a new folder")


def _find(path: Path) -> Path:
    """The safetensors file of a path."""
    if not path.is_dir():
        return path
    for name in _IN_FOLDER:
        if (path / name).is_file():
            return path / name
    if pickles := sorted(path.glob("*.bin")):
        raise BadFile(f"{pickles[0]}: a pickle, which is never opened; save the LoRA as safetensors")
    raise BadFile(f"{path}: no LoRA here; give a {SUFFIX} file, or a folder with {' or '.join(_IN_FOLDER)}")


def _tell_format(keys: Collection[str]) -> LoraFormat:
    """By most of the keys; one of another format is then named as the error."""
    if 2 * sum(key.startswith(("lora_unet_", "lora_te")) for key in keys) > len(keys):
        return "kohya"
    return "peft" if 2 * sum(key.startswith(PEFT_PREFIX) for key in keys) > len(keys) else "diffusers"
