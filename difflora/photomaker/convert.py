"""The public ``photomaker-v1.bin`` into safetensors, once, so that no pickle is ever opened where pictures are made."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import difflora
from difflora.errors import BadFile, BadParameter
from difflora.files import sha256_file
from difflora.photomaker.file import SUFFIX, PhotoMakerFile
from difflora.photomaker.unpickle import REFUSED

_SECONDS = 900
_MAGIC = (b"PK\x03\x04", b"\x80\x02")
"""How torch's files begin: the zip of today, and the pickle of before 1.6."""


def convert_photomaker(source: str | Path, out: str | Path) -> PhotoMakerFile:
    """Converts a PhotoMaker v1 pickle, tensor by tensor to the last bit.

    The pickle is opened by ``torch.load(weights_only=True)`` in a process of its own with limited resources; what comes
    out is checked key by key before it is kept.

    Args:
        source: ``photomaker-v1.bin``.
        out: a ``.safetensors`` to write, whole or not at all.

    Returns:
        The checked file.

    Raises:
        BadFile: if the source is missing, no PhotoMaker v1 or damaged; what is wrong is named.
        BadParameter: if ``out`` does not end in ``.safetensors``.
    """
    source, out = Path(source), Path(out)
    if out.suffix != SUFFIX or out.is_dir():
        raise BadParameter(f"{out}: PhotoMaker is kept as {SUFFIX}; give a name that ends so")
    if not source.is_file():
        raise BadFile(f"{source}: no such file; give the public photomaker-v1.bin")
    with source.open("rb") as file:
        start = file.read(4)
    if not start.startswith(_MAGIC):
        raise BadFile(f"{source}: no file of torch.save; give the public photomaker-v1.bin")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / f"tensors{SUFFIX}"
        _unpickle(source, made)
        try:
            checked = PhotoMakerFile.open(made)
        except BadFile as error:
            raise BadFile(str(error).replace(str(made), str(source))) from error
        checked = replace(checked, where=str(out), source_sha256=sha256_file(source))
        checked.save(out)
    return checked


def _unpickle(source: Path, out: Path) -> None:
    """Runs the opening of the pickle beside this process."""
    # Nothing of this process's environment but where packages lie: no proxies, tokens or settings of torch.
    roots = [str(Path(difflora.__file__).parents[1]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {"PYTHONPATH": os.pathsep.join(roots), "PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "difflora.photomaker.unpickle", str(source.resolve()), str(out.resolve())]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadFile(f"{source}: could not be read in {_SECONDS} seconds; it is no PhotoMaker v1") from error
    if done.returncode:
        said = " ".join(done.stderr.split())
        why = said if done.returncode == REFUSED else f"could not be read (exit code {done.returncode}: {said[-300:]})"
        raise BadFile(f"{source}: {why}; give the public photomaker-v1.bin")
