"""Training of the autoencoder and the diffusion transformer: one loop, resumable to the bit."""

from difflora.training.dit import TrainedDit, train_dit
from difflora.training.dit_settings import DitSettings, EffectSettings
from difflora.training.features import ConditionFeatures, encode_people
from difflora.training.lae import LaeSettings, TrainedLae, train_lae
from difflora.training.loop import TrainReport
from difflora.training.settings import LoopSettings

__all__ = [
    "ConditionFeatures",
    "DitSettings",
    "EffectSettings",
    "LaeSettings",
    "LoopSettings",
    "TrainReport",
    "TrainedDit",
    "TrainedLae",
    "encode_people",
    "train_dit",
    "train_lae",
]
