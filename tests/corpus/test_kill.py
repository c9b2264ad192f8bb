"""SIGKILL at every write of the writer, and at random moments of a whole build: the same bytes in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import Corpus
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.lora import LoraLayout

LAYOUT = LoraLayout.from_unet(nn.ModuleDict({"to_q": nn.Linear(5, 7)}), ("to_q",), 2)
FLAT = torch.randn(9, LAYOUT.size, generator=torch.Generator().manual_seed(0))
BATCHES = (range(3), range(3, 6), range(6, 9))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _write(folder: Path) -> None:
    with CorpusWriter(folder, LAYOUT, {"a": 1}, rows_per_shard=4) as writer:
        for batch in BATCHES:
            rows = [NewRow(f"p{i}", "train", "man", FLAT[i], 0, 1, 0.5) for i in batch if f"p{i}" not in writer.done]
            writer.append([row for row in rows if row.identity != "p4"])
            if 4 in batch:
                writer.fail("p4", "its loss became nan")
        writer.finish()


def _die_at(call: int, torn: int) -> None:
    """Kills this process at its ``call``-th wait for the disk, with ``torn`` bytes less written of what grows then."""
    real, count = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal count
        count += 1
        if count == call:
            if not os.readlink(f"/proc/self/fd/{handle}").endswith(".safetensors"):  # a shard is written in place
                os.ftruncate(handle, max(0, os.fstat(handle).st_size - torn))
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = fsync  # type: ignore[assignment] # in a fork of its own


def _in_child(work: Callable[[], None]) -> int:
    """Runs something in a fork; gives its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("torn", [0, 1, 40])
def test_a_writer_killed_at_any_write_goes_on_to_the_same_bytes(tmp_path: Path, torn: int) -> None:
    _write(tmp_path / "whole")
    expected = _bytes(tmp_path / "whole")
    call, killed = 0, True
    while killed:
        call += 1
        folder = tmp_path / f"killed-{call}"

        def die(folder: Path = folder, call: int = call) -> None:
            _die_at(call, torn)
            _write(folder)

        killed = _in_child(die) == signal.SIGKILL
        _write(folder)
        assert _bytes(folder) == expected, f"killed at write {call}"
    assert call > 10


SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from difflora.corpus.base import FrozenBase
from difflora.corpus.build import build_corpus
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings

people, model, whole, killed = map(Path, sys.argv[1:5])
base, folder = FrozenBase.open(model), PeopleFolder(people)
settings = DreamBoothSettings(rank=1, steps=1, batch_size=1, lr=1e-2)

def child(out):
    pid = os.fork()
    if pid == 0:
        build_corpus(out, folder, base, settings, people_at_once=2, rows_per_shard=3, progress=False)
        os._exit(0)
    return pid

started = time.monotonic()
assert os.waitpid(child(whole), 0)[1] == 0
seconds = time.monotonic() - started
draw, kills = random.Random(int(sys.argv[5])), 0
for _ in range(200):
    pid = child(killed)
    time.sleep(draw.uniform(0.02, 0.6) * seconds)
    os.kill(pid, signal.SIGKILL)
    kills += os.waitpid(pid, 0)[1] == signal.SIGKILL
    index = killed / "index.jsonl"
    rows = index.read_bytes().count(b"\\n") if index.exists() else 0
    print(rows, flush=True)
    if rows == len(folder) or kills == 12:
        break
assert os.waitpid(child(killed), 0)[1] == 0
print("kills", kills)
"""


def test_a_build_killed_at_random_moments_ends_in_the_same_bytes(
    tmp_path: Path, base: FrozenBase, make_people: Callable[..., PeopleFolder]
) -> None:
    make_people(tmp_path / "people", 9, images=2)
    base.pipeline.save_pretrained(tmp_path / "model")
    seed = random.randrange(1000)
    arguments = [str(tmp_path / name) for name in ("people", "model", "whole", "killed")]
    done: Any = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, str(seed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counts = [int(line) for line in done.stdout.splitlines()[:-1]]
    assert int(done.stdout.splitlines()[-1].split()[1]) >= 1, f"seed {seed}: {done.stdout}"
    assert counts == sorted(counts), f"seed {seed}: rows were lost ({counts})"
    assert len(Corpus.open(tmp_path / "whole")) == 9
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole"), f"seed {seed}"
