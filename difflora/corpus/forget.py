"""Taking people out of what only grows: their pictures, embeddings, lines, LoRAs and half-joined batches.

Each function takes hashes of ids, leaves everybody else's bytes and places alone, and does nothing where nothing is
left to do. A tombstone is written before the data go, so a kill leaves at worst data that no reader lists, and the next
call takes them away.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Set
from pathlib import Path

from difflora.corpus.forgotten import KEY, Roster, buried, hash_of, is_tombstone
from difflora.corpus.header import read_header, sweep
from difflora.corpus.lines import LineWriter
from difflora.corpus.parts import people_of_part
from difflora.corpus.people import FILES, LIST, SEEN
from difflora.corpus.reader import FAILURES, HEADER, INDEX, KIND, SHARDS, open_format
from difflora.errors import BadFile


def forget_people(folder: Path, hashes: Set[str]) -> int:
    """Takes people out of a folder of people.

    Args:
        folder: of people; without one nobody is there.
        hashes: of the ids to forget, see ``hash_of``.

    Returns:
        How many lines and files went.

    Raises:
        BadFile: if the list of people is damaged.
        DiffLoRAError: if a build writes the folder.
    """
    if not (folder / LIST).is_file():
        return 0
    gone = _bury(folder / LIST, hashes)
    with LineWriter(folder / LIST):  # alone, also in the list that took the old one's place
        for path in (folder / FILES).glob("*.safetensors"):
            if hash_of(path.stem) in hashes:
                path.unlink()
                gone += 1
        if (folder / SEEN).is_dir():  # an interrupted build looks at its photographs again
            shutil.rmtree(folder / SEEN)
        sweep(folder, folder / FILES)
    return gone


def forget_rows(folder: Path, hashes: Set[str]) -> int:
    """Takes people's LoRAs out of a corpus; shards without them are not touched, and nobody else's row moves.

    Args:
        folder: of a corpus; without one nobody is there.
        hashes: of the ids to forget, see ``hash_of``.

    Returns:
        How many lines and rows went.

    Raises:
        BadFile: if header, index or a person's shard is damaged.
        DiffLoRAError: if a build writes the corpus.
    """
    if not (folder / HEADER).is_file():
        return 0
    _, shards = open_format(folder, read_header(folder / HEADER, KIND))
    gone = _bury(folder / INDEX, hashes) + _bury(folder / FAILURES, hashes)
    with LineWriter(folder / INDEX) as writer:  # alone, also in the index that took the old one's place
        empty = defaultdict[int, list[int]](list)
        for place, line in enumerate(writer.records):
            if is_tombstone(line) and line[KEY] in hashes:
                empty[place // shards.rows].append(place % shards.rows)
        # A kill may have left rows that no line lists: nobody can tell whose they are, and a build writes them again.
        shard, used = divmod(len(writer.records), shards.rows)
        while shards.path(shard).exists():
            empty[shard] += range(used, shards.rows)
            shard, used = shard + 1, 0
        for shard, rows in empty.items():
            gone += shards.erase(shard, rows)
        sweep(folder, folder / SHARDS)
    return gone


def forget_parts(folder: Path, hashes: Set[str]) -> int:
    """Removes batches that wait to be joined and hold people to forget; the others in them are trained again.

    Returns:
        How many files went.
    """
    gone = 0
    for path in folder.glob("*.safetensors"):
        try:
            held = any(hash_of(identity) in hashes for identity in people_of_part(path))
        except BadFile:  # no build would take it, and nobody can tell who is in it
            held = True
        if held:
            path.unlink()
            gone += 1
    return gone


def _bury(path: Path, hashes: Set[str]) -> int:
    """Puts tombstones where people stood; gives how many."""
    if not path.is_file():
        return 0
    with LineWriter(path) as writer:
        before = len(Roster(writer.records))
        if any(is_tombstone(buried(line, hashes)) for line in writer.records):
            writer.rewrite(lambda line: buried(line, hashes))
        return before - len(Roster(writer.records))
