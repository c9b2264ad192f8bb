"""The models: autoencoder of LoRAs, mixed image features, diffusion transformer, and the pipeline over them."""

from difflora.models.dit import LoraTransformer
from difflora.models.lae import LaeOutput, LoraAutoencoder
from difflora.models.mif import MixedImageFeatures
from difflora.models.noise import make_scheduler
from difflora.models.pipeline import DiffLoRAOutput, DiffLoRAPipeline
from difflora.models.portable import load_model, save_model
from difflora.models.sampling import sample_latents
from difflora.models.settings import DitModelSettings, LaeModelSettings, NoiseSettings

__all__ = [
    "DiffLoRAOutput",
    "DiffLoRAPipeline",
    "DitModelSettings",
    "LaeModelSettings",
    "LaeOutput",
    "LoraAutoencoder",
    "LoraTransformer",
    "MixedImageFeatures",
    "NoiseSettings",
    "load_model",
    "make_scheduler",
    "sample_latents",
    "save_model",
]
