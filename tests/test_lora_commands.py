from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from difflora.cli import main
from difflora.lora import BaseModelId, LoraLayout, LoraModule, LoraWeights

BLOCK = "transformer_blocks.0.attn2"
LAYOUT = LoraLayout(
    tuple(
        LoraModule(f"{place}.{BLOCK}.{leaf}", 8, width)
        for place in ("down_blocks.1.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.1")
        for leaf, width in (("to_q", 8), ("to_k", 6))
    ),
    2,
)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["lora", *map(str, arguments)])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.fixture
def person(tmp_path: Path) -> Path:
    path = tmp_path / "person.safetensors"
    flat = torch.randn(LAYOUT.size, generator=torch.Generator().manual_seed(0)) * 0.1
    LoraWeights(LAYOUT, flat, BaseModelId(name="tiny"), 4.0, 0.7, "sks person", {"seed": "3"}).save(path)
    return path


def test_convert_there_and_back(person: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kohya, peft, back = tmp_path / "comfy.safetensors", tmp_path / "adapter", tmp_path / "back.safetensors"
    assert run("convert", person, kohya, "--format", "kohya") == 0
    assert capsys.readouterr().out == f"{kohya}: 6 modules of rank 2 in kohya's format\n"
    assert run("convert", kohya, peft, "--format", "peft") == 0
    assert run("convert", peft, back, "--format", "diffusers") == 0
    assert back.read_bytes() == person.read_bytes()


def test_show(person: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", person, "--json", tmp_path / "figures.json") == 0
    said = capsys.readouterr().out
    assert "trigger      sks person\n" in said
    assert "shapes       8 x 8 3, 8 x 6 3\n" in said
    found = json.loads((tmp_path / "figures.json").read_text())
    assert (found["format"], found["base"], found["rank"], found["alpha"]) == ("diffusers", "tiny", 2, 4.0)
    assert found["architecture"] == "stable-diffusion-xl-v1-base/lora"
    changes = {name: 2 * (up @ down).norm().item() for name, (down, up) in LoraWeights.load(person).tensors().items()}
    assert found["norms"]["strongest"] == max(changes, key=lambda name: changes[name])
    assert found["norms"]["most"] == pytest.approx(max(changes.values()), rel=1e-2)  # half precision here


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nothing.safetensors"], "nothing.safetensors: no such file"),
        (["show", "person.safetensors", "--json", "."], "is a folder: give the name of a file"),
        (["show", "."], "no LoRA here"),
        (["show", "note.safetensors"], "not a readable safetensors file"),
        (["convert", "person.safetensors", "out.safetensors"], "Missing option '--format'"),
        (["convert", "person.safetensors", "out.safetensors", "--format", "onnx"], "format is 'onnx'; give one of"),
        (["convert", "person.safetensors", "out.bin", "--format", "kohya"], "ends in .safetensors"),
        (["convert", "person.safetensors", ".", "--format", "peft"], "which is no adapter's; give a new folder"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    person: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(person.parent)
    Path("note.safetensors").write_text("x")
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("difflora: ")
    assert shown.err.count("\n") == 1
    assert not shown.out
    assert sorted(path.name for path in person.parent.iterdir()) == ["note.safetensors", "person.safetensors"]


@pytest.mark.parametrize("command", ["convert", "show"])
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"Example: difflora lora {command}" in capsys.readouterr().out
