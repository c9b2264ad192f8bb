"""PhotoMaker as a source of people, on small checkpoints in the public formats, from rendered reference pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.corpus.people import PeopleFolder
from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadFile, BadParameter
from difflora.identities.build import IdentitySettings, build_people
from difflora.identities.photographs.source import Portrait, photographs_behind
from difflora.identities.photomaker import PhotoMakerPeople
from difflora.identities.prompt_list import own_prompts
from difflora.identities.source import ImageSource, load_source
from difflora.photomaker.convert import convert_photomaker
from difflora.prompts import for_person
from difflora.world.identities import RenderedPeople
from difflora.world.rendered import RenderedCandidates
from tests.checkpoints import photomaker_v1, sdxl_pipeline
from tests.tiny import wake

NAME = "difflora.identities.photomaker:PhotoMakerPeople"
PACKS = Path(__file__).parents[2] / "assets" / "embedded" / "insightface"
RENDERED = {"source": "difflora.world.identities:RenderedPeople", "options": {"seed": 3}}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a small SDXL folder and a small PhotoMaker, converted from its pickle."""
    folder = tmp_path_factory.mktemp("models")
    pipeline = sdxl_pipeline()
    wake(pipeline.unet)
    pipeline.save_pretrained(folder / "sdxl")
    torch.save(photomaker_v1(pipeline.unet), folder / "photomaker-v1.bin")
    convert_photomaker(folder / "photomaker-v1.bin", folder / "photomaker-v1.safetensors")
    return {
        "base": str(folder / "sdxl"),
        "photomaker": str(folder / "photomaker-v1.safetensors"),
        "references": RENDERED,
        "drawing": {"steps": 2, "size": 64, "batch_size": 2},
    }


@pytest.fixture(scope="module")
def source(options: dict[str, Any]) -> ImageSource:
    return load_source(NAME, options)


def test_candidates_are_a_function_of_person_prompt_and_seed(source: ImageSource) -> None:
    identity = source.ids(2)[0]
    assert source.ids(2) == RenderedPeople(seed=3).ids(2)
    made = source.candidates(identity, 5, 7)
    assert made.images.shape == (5, 3, 64, 64)
    assert made.images.dtype == torch.uint8
    assert len(set(made.captions)) == 5
    ours = {for_person(one.text, made.class_word) for one in own_prompts(made.class_word)}
    assert set(made.captions) <= ours, "no trigger word in captions"
    fewer, other = source.candidates(identity, 2, 7), source.candidates(source.ids(2)[1], 2, 7)
    assert list(fewer.captions) == list(made.captions[:2])
    assert (fewer.images.int() - made.images[:2].int()).abs().max() <= 1, "whatever else is drawn"
    assert (other.images.int() - fewer.images.int()).abs().max() > 1
    assert (source.candidates(identity, 2, 8).images.int() - fewer.images.int()).abs().max() > 1


class Called(RenderedPeople):
    """Everyone is called what a corpus of photographs calls those of whom nothing is known."""

    def candidates(self, identity: str, count: int, seed: int) -> RenderedCandidates:
        made = super().candidates(identity, count, seed)
        return RenderedCandidates(made.images, made.captions, "person")


def test_prompts_of_ones_own(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("a photo of {person}\n{person} on a beach\n")
    references = {"source": f"{__name__}:Called", "pictures": 2}
    own = PhotoMakerPeople(**options | {"references": references, "prompts": {"person": tmp_path / "people.txt"}})
    made = own.candidates(own.ids(1)[0], 3, 0)
    assert sorted(set(made.captions)) == ["a person on a beach", "a photo of a person"]
    assert made.class_word == "person"
    again = [i for i, caption in enumerate(made.captions) if caption == made.captions[2]]
    assert not torch.equal(made.images[again[0]], made.images[2]), "a prompt that comes again has other noise"
    with pytest.raises(
        BadParameter, match=r"rendered-0-000000: is called 'person', and there are prompts for woman, man"
    ):
        PhotoMakerPeople(**options | {"references": references}).candidates("rendered-0-000000", 1, 0)


class Rerendered:
    """Stands for a PhotoMaker that works: says it is the source, and draws the person by the renderer."""

    def __init__(self, source: ImageSource) -> None:
        self._source, self._people = source, RenderedPeople(seed=3)
        self.settings, self.ids, self.candidates = source.settings, source.ids, self._people.candidates
        self.consent = source.consent


@pytest.mark.skipif(not (PACKS / "models" / "world").is_dir(), reason="the face pack is not stored here")
def test_people_are_built_and_continued_under_the_same_settings_alone(
    options: dict[str, Any], source: ImageSource, tmp_path: Path
) -> None:
    encoder = InsightFaceEncoder(PACKS, "world", det_size=(128, 128))
    settings = IdentitySettings(candidates=6, keep=5, references=2)
    build_people(tmp_path, Rerendered(source), encoder, settings, 1, progress=False)
    people = build_people(tmp_path, Rerendered(load_source(NAME, options)), encoder, settings, 2, progress=False)
    assert people.ids == source.ids(2)
    assert PeopleFolder(tmp_path).person(people.ids[0]).images.shape == (3, 3, 64, 64)
    more = options["drawing"] | {"batch_size": 1}
    assert load_source(NAME, options | {"drawing": more}).settings == source.settings, (
        "how many at a time is no setting"
    )
    for change, said in (
        ({"drawing": options["drawing"] | {"steps": 3}}, "source.drawing.steps = 2, not 3"),
        ({"references": RENDERED | {"seed": 1}}, "source.references.seed = 0, not 1"),
        ({"references": RENDERED | {"options": {"seed": 4}}}, "source.references.source.seed = 3, not 4"),
    ):
        with pytest.raises(BadParameter, match=said):
            build_people(tmp_path, load_source(NAME, options | change), encoder, settings, 1, progress=False)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"bases": 1}, BadParameter, r"identities.options.bases: Extra inputs"),
        ({"drawing": {"steps": 0}}, BadParameter, r"identities.options.drawing.steps: .* greater than or equal to 1"),
        ({"drawing": {"steps": 4, "start_merge_step": 5}}, BadParameter, "start_merge_step is 5 of 4 steps"),
        ({"drawing": {"sampler": "heun"}}, BadParameter, r"options.drawing.sampler: Input should be 'own', 'euler'"),
        ({"lcm_lora": "lcm.safetensors"}, BadParameter, "lcm_lora is given with the euler sampler"),
        ({"references": {"source": "x:Y"}}, BadParameter, "x:Y"),
        ({"references": RENDERED | {"pictures": 0}}, BadParameter, r"options.references.pictures"),
        ({"prompts": {"man": "nothing.txt"}}, BadFile, "nothing.txt"),
        ({"photomaker": "photomaker-v1.bin"}, BadFile, "photomaker-v1.bin"),
        ({"base": "nowhere"}, BadFile, "nowhere: no base model here"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], change: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        load_source(NAME, options | change).candidates("rendered-3-000000", 1, 0)


def test_photographs_are_looked_over_before_they_are_shown(
    options: dict[str, Any], lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    folder = lay_out(anna=(0, range(2)), bert=(1, range(1)))
    consent = {"source": "a study", "licence": "form 3", "date": "2020-01-02"}
    references = {
        "source": "difflora.identities.photographs:PeopleFolders",
        "options": {"folder": str(folder), "consent": consent, "class_word": "woman", "size": 64},
    }
    people = load_source(NAME, options | {"references": references})
    assert people.consent("anna") == consent
    source = photographs_behind(people)
    assert source is not None
    assert source.ids(2) == people.ids(2)
    assert [one.path.name for one in source.photographs("anna")] == ["0.png", "1.png"]
    shown = [Portrait(folder / "bert" / "0.png", None, (20, 20, 40, 40))]
    made = source.make("anna", shown, 3, 0)
    assert made.images.shape == (3, 3, 64, 64)
    assert (made.images.int() - source.candidates("anna", 3, 0).images.int()).abs().max() > 1, "another's face"
    assert photographs_behind(load_source(NAME, options)) is None
