"""Makes a study of the pictures that the evaluation keeps."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from difflora.encoders.pictures import read_picture
from difflora.errors import BadFile, BadParameter
from difflora.evaluation.gallery import Gallery, Scene
from difflora.files import sha256_file, write_json
from difflora.folders import read_json, whole_folder
from difflora.study.pages import ITEMS, KEY, PAGES, VOTES, Item, ItemsFile, Pages
from difflora.validation import validated


class Origin(BaseModel):
    """Whose picture an item is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    person: str
    prompt: str
    seed: int


class Key(BaseModel):
    """``key.json``: what raters must not see.

    Attributes:
        study: digest of the pages that it is for.
        seed: of the study.
        strength: of each method, as the evaluation chose it.
        items: item id -> whose picture it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    seed: int
    strength: dict[str, float]
    items: dict[str, Origin]

    @classmethod
    def open(cls, study: Path, pages: Pages) -> Key:
        """Reads the key of a study's folder.

        Raises:
            BadFile: if it is missing, or of other pages.
            BadParameter: for a key or value that is not allowed; it is named.
        """
        place = study / KEY
        key = validated(cls, read_json(place), str(place))
        if key.study != pages.digest or set(key.items) != {item.id for item in pages.items}:
            raise BadFile(f"{place}: is the key of other pages than {pages.folder}; bring the two that belong together")
        return key


def build_study(
    pictures: Path,
    out: Path,
    *,
    methods: Sequence[str] = (),
    people: int | None = None,
    prompts: int | None = None,
    per_rater: int | None = None,
    seed: int = 0,
) -> Pages:
    """Writes ``pages`` (what is served) and ``key.json`` into a study's folder; the same seed gives the same bytes.

    Every page shows one picture, with the prompt and the reference of the same person. Names and order are drawn.
    Pictures are stored anew, so that nothing in a file tells where it is from.

    Args:
        pictures: folder of kept pictures, ``reports/pictures``.
        out: the study's folder.
        methods: whose pictures; none for all.
        people: the first people; None for all. Those kept for what came out are never taken: they would flatter.
        prompts: of each person, the first ones; None for all.
        per_rater: pages that one rater is asked for; None for all.
        seed: of names and order.

    Raises:
        BadFile: if the pictures are missing or a scene lacks a method's.
        BadImage: if a picture is damaged.
        BadParameter: if there are fewer people, prompts or methods than asked for, or votes were cast already.
    """
    if (out / VOTES).exists():
        raise BadParameter(f"{out / VOTES}: votes were cast on this study; build another one in another folder")
    gallery = Gallery.open(pictures)
    scenes = _scenes(gallery, people, prompts)
    chosen = _methods(scenes, methods, gallery.folder)
    draw = random.Random(seed)
    pairs = [(scene, method) for scene in scenes for method in chosen]
    draw.shuffle(pairs)
    shown = list(dict.fromkeys(scene.person for scene in scenes))
    names = _names(draw, 2 * len(pairs) + len(shown))
    references = {person: f"{name}.png" for person, name in zip(shown, names, strict=False)}
    rest = names[len(shown) :]
    items, origins = [], {}
    with whole_folder(out / PAGES) as folder:
        (folder / "pictures").mkdir()
        for person, name in references.items():
            source = gallery.path(gallery.index.people[person].reference)
            (folder / "pictures" / name).write_bytes(_bare(source))
        for (scene, method), identity, name in zip(pairs, rest[::2], rest[1::2], strict=True):
            file = f"{name}.png"
            (folder / "pictures" / file).write_bytes(_bare(gallery.path(scene.pictures[method])))
            items.append(Item(id=identity, picture=file, reference=references[scene.person], prompt=scene.prompt))
            origins[identity] = Origin(method=method, person=scene.person, prompt=scene.prompt, seed=scene.seed)
        write_json(folder / ITEMS, ItemsFile(per_rater=per_rater, items=tuple(items)).model_dump())
        # Before the pages take their place: pages without a key could never be scored.
        digest = sha256_file(folder / ITEMS)
        key = Key(study=digest, seed=seed, strength=gallery.index.strength, items=origins)
        write_json(out / KEY, key.model_dump())
    return Pages.open(out)


def _scenes(gallery: Gallery, people: int | None, prompts: int | None) -> list[Scene]:
    there = [name for name, person in gallery.index.people.items() if not person.chosen]
    if len(there) < (people or 1):
        raise BadParameter(
            f"{gallery.folder}: has pictures of {len(there)} people, {people or 1} are wanted; ask for fewer, or keep "
            "those of more (evaluate.store_pictures.people)"
        )
    found = []
    for person in there[:people]:
        own = gallery.scenes_of(person, one_a_prompt=True)
        if len(own) < (prompts or 1):
            raise BadParameter(
                f"{gallery.folder}: has {len(own)} pictures of {person} by a method, {prompts or 1} are wanted; ask "
                "for fewer, or keep more (evaluate.store_pictures.prompts)"
            )
        found += own[:prompts]
    return found


def _methods(scenes: Sequence[Scene], methods: Sequence[str], folder: Path) -> list[str]:
    known = list(scenes[0].pictures)
    chosen = list(dict.fromkeys(methods)) or known
    if strange := [name for name in chosen if name not in known]:
        raise BadParameter(f"methods: {folder} has no pictures of {', '.join(strange)}; it has {', '.join(known)}")
    if len(chosen) < 2:
        raise BadParameter(f"methods are {', '.join(chosen)}: give at least 2, or raters have nothing to tell apart")
    for scene in scenes:
        if lacking := [name for name in chosen if name not in scene.pictures]:
            raise BadFile(f"{folder}: {', '.join(lacking)} did not draw {scene.person}: {scene.prompt!r}")
    return chosen


def _names(draw: random.Random, count: int) -> list[str]:
    """So many random names, no two the same."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[f"{draw.getrandbits(64):016x}"] = None
    return list(found)


def _bare(path: Path) -> bytes:
    """A picture's pixels as a PNG without anything else in it."""
    buffer = io.BytesIO()
    read_picture(path).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
