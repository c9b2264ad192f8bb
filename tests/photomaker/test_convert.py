from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from difflora.errors import BadFile, BadParameter
from difflora.files import sha256_file
from difflora.photomaker.convert import convert_photomaker
from difflora.photomaker.file import PhotoMakerFile, file_digest
from difflora.photomaker.unpickle import tensors_of
from difflora.stages.weights_commands import weights


def test_every_tensor_is_kept_to_the_last_bit(kept: Path, public: dict[str, dict[str, torch.Tensor]]) -> None:
    stored = load_file(kept)
    assert stored.keys() == {f"{part}.{key}" for part, tensors in public.items() for key in tensors}
    for part, tensors in public.items():
        for key, tensor in tensors.items():
            assert stored[f"{part}.{key}"].dtype == torch.float16
            assert torch.equal(stored[f"{part}.{key}"], tensor)
    source = kept.with_suffix(".bin")
    assert PhotoMakerFile.open(kept).source_sha256 == sha256_file(source)
    assert file_digest(kept) == file_digest(source), "the same weights, however they are stored"
    assert [path.name for path in kept.parent.iterdir() if path.name.startswith(".")] == []


class Harmful:
    """A pickle that runs a command when it is opened carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_code_runs_none(tmp_path: Path) -> None:
    source, out = tmp_path / "photomaker-v1.bin", tmp_path / "out.safetensors"
    torch.save({"id_encoder": Harmful(tmp_path / "ran"), "lora_weights": {}}, source)
    with pytest.raises(BadFile, match=r"photomaker-v1.bin: not a pickle of tensors alone .*system") as caught:
        convert_photomaker(source, out)
    assert "weights_only" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photomaker-v1.bin"], "nothing ran, nothing is left"


def test_another_file_is_refused_by_name(
    kept: Path, public: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(BadFile, match=r"safetensors: no file of torch.save"):
        convert_photomaker(kept, out)
    with pytest.raises(BadFile, match=r"nothing.bin: no such file"):
        convert_photomaker(tmp_path / "nothing.bin", out)
    with pytest.raises(BadParameter, match=r"out.bin: PhotoMaker is kept as .safetensors"):
        convert_photomaker(kept.with_suffix(".bin"), tmp_path / "out.bin")
    cut = tmp_path / "cut.bin"
    cut.write_bytes(kept.with_suffix(".bin").read_bytes()[:-2000])
    with pytest.raises(BadFile, match=r"cut.bin: not a pickle of tensors"):
        convert_photomaker(cut, out)
    assert not out.exists()


def test_the_second_version_is_named(public: dict[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    newer = public["id_encoder"] | {"qformer_perceiver.token_proj.0.weight": torch.ones(2, 2)}
    torch.save(public | {"id_encoder": newer}, tmp_path / "photomaker-v2.bin")
    done = CliRunner().invoke(
        weights, ["convert", str(tmp_path / "photomaker-v2.bin"), str(tmp_path / "out.safetensors")]
    )
    assert isinstance(done.exception, BadFile)
    assert "photomaker-v2.bin: id_encoder.qformer_perceiver.token_proj.0.weight is not of" in str(done.exception)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(1)], "holds list"),
        ({"state_dict": {}}, "holds 'state_dict'"),
        ({}, "holds nothing"),
        ({"id_encoder": {}, "lora_weights": torch.ones(1)}, "lora_weights is a Tensor"),
        ({"id_encoder": {"x": 1.0}, "lora_weights": {}}, "id_encoder.x is a float"),
        ({"id_encoder": {"x": torch.ones(1).int()}, "lora_weights": {}}, "id_encoder.x is torch.int32"),
    ],
)
def test_other_content_is_named(content: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content, tmp_path / "other.bin")
    with pytest.raises(SystemExit):
        tensors_of(tmp_path / "other.bin")
    assert said in capsys.readouterr().err


def test_the_command_says_what_it_made(kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "photomaker.safetensors"
    done = CliRunner().invoke(weights, ["convert", str(kept.with_suffix(".bin")), str(out)])
    assert done.exit_code == 0, done.output
    assert "tensors of the id encoder" in done.output
    assert load_file(out).keys() == load_file(kept).keys()
