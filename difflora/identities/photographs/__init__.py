"""People from collections of photographs: each class reads one layout, and is found by name as an image source."""

from difflora.identities.photographs.celeba_hq import CelebAHQ
from difflora.identities.photographs.ffhq import FFHQ
from difflora.identities.photographs.folders import PeopleFolders
from difflora.identities.photographs.single import SingleImages
from difflora.identities.photographs.source import Photograph, PhotographSource, Portrait

__all__ = ["FFHQ", "CelebAHQ", "PeopleFolders", "Photograph", "PhotographSource", "Portrait", "SingleImages"]
