"""Plain torch networks. They know nothing of feedback."""

from neurofb.networks.conv_net import ConvNet, ConvNetConfig
from neurofb.networks.factorised import Factorised, factored_layers, factorise, fold
from neurofb.networks.mlp import MLP, MLPConfig
from neurofb.networks.noise import GaussianNoise
from neurofb.networks.resnet import ResNet, ResNetConfig
from neurofb.networks.retina_vvs import RetinaVVS, RetinaVVSConfig, hanut2025, lindsey2019
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear
from neurofb.networks.vgg import VGG, VGGConfig
from neurofb.networks.vit import ViT, ViTConfig

__all__ = [
    "MLP",
    "VGG",
    "ConvNet",
    "ConvNetConfig",
    "Factorised",
    "GaussianNoise",
    "MLPConfig",
    "ResNet",
    "ResNetConfig",
    "RetinaVVS",
    "RetinaVVSConfig",
    "SVDConv2d",
    "SVDLinear",
    "VGGConfig",
    "ViT",
    "ViTConfig",
    "factored_layers",
    "factorise",
    "fold",
    "hanut2025",
    "lindsey2019",
]
