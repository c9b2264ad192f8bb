from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile
from difflora.world import pool as module
from difflora.world.pool import fresh_pool, generic_pool, people_pool
from difflora.world.render import render


def test_people_pool_is_what_it_says(tmp_path: Path) -> None:
    pool = people_pool(4, 3, seed=9, folder=tmp_path)
    assert len(pool) == 12
    assert pool.images.shape == (12, 3, 64, 64)
    assert pool.images.dtype == torch.uint8
    assert pool.identity.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(pool.people.continuous[0], pool.people.continuous[2])
    assert not torch.equal(pool.people.continuous[0], pool.people.continuous[3])
    drawn = render(pool.people, pool.scenes)
    torch.testing.assert_close(pool.batch(torch.arange(12)), drawn.images, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(pool.landmarks, drawn.landmarks)
    torch.testing.assert_close(pool.boxes, drawn.boxes)


def test_every_generic_picture_is_another_person(tmp_path: Path) -> None:
    pool = generic_pool(6, seed=9, folder=tmp_path)
    assert pool.identity.tolist() == list(range(6))
    assert len(pool.people.continuous.unique(dim=0)) == 6


def test_pools_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = people_pool(2, 2, seed=9, folder=tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "fresh_pool", never)
    again = people_pool(2, 2, seed=9, folder=tmp_path)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.scenes.categorical, again.scenes.categorical)
    with pytest.raises(AssertionError, match="drawn again"):
        people_pool(2, 2, seed=10, folder=tmp_path)


def test_a_changed_renderer_never_meets_old_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people_pool(1, 1, seed=9, folder=tmp_path)
    monkeypatch.setattr(module, "_recipe", lambda: b"another")
    people_pool(1, 1, seed=9, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_fresh_pool_is_a_function_of_its_seed() -> None:
    a, b, c = fresh_pool(2, 2, 5), fresh_pool(2, 2, 5), fresh_pool(2, 2, 6)
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)


def test_a_truncated_pool_is_named(tmp_path: Path) -> None:
    people_pool(1, 1, seed=9, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadFile, match=path.name):
        people_pool(1, 1, seed=9, folder=tmp_path)
