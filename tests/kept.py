"""A folder of kept pictures, as the evaluation writes it, of plain colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from difflora.evaluation.gallery import INDEX, GalleryIndex, GalleryPerson, Scene
from difflora.files import write_json

METHODS = ("base", "generated", "teacher")
PROMPTS = ("a photo of a man, smiling", "a portrait of a man, on a beach")


def make_gallery(
    folder: Path,
    people: Sequence[str] = ("p1", "p2", "p3"),
    *,
    chosen: Sequence[str] = (),
    methods: Sequence[str] = METHODS,
    prompts: Sequence[str] = PROMPTS,
) -> Path:
    """Writes pictures of 32 pixels, every one of another colour."""
    colour = 0
    known, scenes = {}, []
    for person in (*people, *chosen):
        reference = f"references/{person}.jpg"
        names = [reference]
        for number, prompt in enumerate(prompts):
            pictures = {method: f"{method}/{person}/{number:03d}.png" for method in methods}
            scenes.append(Scene(person=person, prompt=prompt, seed=number, pictures=pictures))
            names += pictures.values()
        known[person] = GalleryPerson(class_word="man", reference=reference, chosen=person in chosen)
        for name in names:
            colour += 1
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (colour, 2 * colour % 256, 90)).save(folder / name)
    strength = {method: 1.5 for method in methods if method != "base"}
    write_json(folder / INDEX, GalleryIndex(strength=strength, people=known, scenes=tuple(scenes)).model_dump())
    return folder
