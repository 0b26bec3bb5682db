"""Plain torch networks. They know nothing of feedback."""

from neurofb.networks.noise import GaussianNoise
from neurofb.networks.retina_vvs import RetinaVVS, RetinaVVSConfig, hanut2025, lindsey2019

__all__ = ["GaussianNoise", "RetinaVVS", "RetinaVVSConfig", "hanut2025", "lindsey2019"]
