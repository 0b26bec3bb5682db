"""Vision transformer whose every linear map is a module of its own."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurofb.networks.checks import check_integers, check_probability
from neurofb.networks.initialise import build_from_seed


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Settings of `ViT`; the defaults are the CIFAR-10 network of Hanut & Kadmon (2025).

    Parameters
    ----------
    image_size, in_channels, num_classes
        Images are ``image_size`` × ``image_size`` pixels with ``in_channels`` channels.
    patch
        Side of the square patches (pixels); it divides `image_size`.
    dim, depth
        Dimensions of a token, and number of blocks.
    heads
        Attention heads; it divides `dim`.
    mlp_ratio
        Hidden units of a block's MLP per dimension of a token.
    dropout
        Probability of dropping a dimension of the embedded tokens, of the attention's output and in
        the MLP, and of dropping an attention weight.
    drop_path
        Probability of leaving out a residual branch for an image (stochastic depth, Huang et al.
        2016) in the last block; it rises linearly from 0 in the first.
    fused_qkv
        Whether queries, keys and values come from one linear map, ``attention.qkv``, as in timm,
        or from three, ``attention.q``, ``.k`` and ``.v``.

    Raises
    ------
    ValueError
        If a value is out of its range, or does not divide what it must.

    Examples
    --------
    >>> network = ViTConfig(dim=16, depth=2, heads=2).build(seed=0)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    network: Literal["vit"] = "vit"
    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    patch: int = 4
    dim: int = 384
    depth: int = 8
    heads: int = 8
    mlp_ratio: float = 2.0
    dropout: float = 0.1
    drop_path: float = 0.1
    fused_qkv: bool = True

    def __post_init__(self) -> None:
        check_integers(self, {"image_size": 1, "in_channels": 1, "num_classes": 2})
        check_integers(self, {"patch": 1, "dim": 1, "depth": 1, "heads": 1})
        check_probability("dropout", self.dropout)
        check_probability("drop_path", self.drop_path)
        for part, whole in (("patch", "image_size"), ("heads", "dim")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{part}={getattr(self, part)} must divide {whole}={getattr(self, whole)}"
                )
        if not 1 <= self.mlp_ratio * self.dim < math.inf:
            raise ValueError(
                f"mlp_ratio={self.mlp_ratio!r} must give at least one hidden unit for "
                f"dim={self.dim}"
            )

    def build(self, seed: int) -> "ViT":
        """Make the network with weights that follow from `seed`; global random state untouched."""
        return build_from_seed(lambda: ViT(self), seed=seed, initialisation="truncated_normal")


class ViT(nn.Module):
    """Patches embedded with their positions, transformer blocks, a readout of the class token.

    The layers are ``patch_embedding``, then of each block ``blocks.0.attention.qkv`` (or ``.q``,
    ``.k``, ``.v``), ``blocks.0.attention.projection``, ``blocks.0.mlp.expand`` and
    ``blocks.0.mlp.contract``, then ``readout``. Blocks normalise before each branch, as the last
    block's output is. Weights start from a normal distribution of standard deviation 0.02, cut off
    at ±2, with zero biases.

    Made by `ViTConfig.build`, which also sets the weights from a seed.

    References
    ----------
    Dosovitskiy et al. 2021, "An image is worth 16x16 words", arXiv:2010.11929.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        dim, num_tokens = config.dim, 1 + (config.image_size // config.patch) ** 2
        self.patch_embedding = nn.Conv2d(
            config.in_channels, dim, kernel_size=config.patch, stride=config.patch
        )
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, num_tokens, dim))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(config, drop_path=config.drop_path * i / max(config.depth - 1, 1))
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.readout = nn.Linear(dim, config.num_classes)

    def forward(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image num_classes"]:
        """Return the logits of the classes."""
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        tokens = self.dropout(tokens + self.positions)
        for block in self.blocks:
            tokens = block(tokens)
        return self.readout(self.norm(tokens[:, 0]))


class TransformerBlock(nn.Module):
    """Self-attention, then an MLP on each token, both normalised before and added after."""

    def __init__(self, config: ViTConfig, *, drop_path: float):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = TokenMLP(config)
        self.drop_path = drop_path

    def forward(self, tokens: Float[Tensor, "image token dim"]) -> Float[Tensor, "image token dim"]:
        """Return the tokens after both branches."""
        tokens = tokens + self._sometimes(self.attention(self.norm_1(tokens)))
        return tokens + self._sometimes(self.mlp(self.norm_2(tokens)))

    def _sometimes(self, branch: Tensor) -> Tensor:
        """Leave the branch out for some images in training mode, and scale up what stays."""
        if not self.training or self.drop_path == 0:
            return branch
        stays = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.drop_path)
        return branch * stays / (1 - self.drop_path)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, eq. 1)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        dim, self.heads, self.fused = config.dim, config.heads, config.fused_qkv
        if self.fused:
            self.qkv = nn.Linear(dim, 3 * dim)
        else:
            self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.projection = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Float[Tensor, "image token dim"]) -> Float[Tensor, "image token dim"]:
        """Return what each token attends to."""
        if self.fused:
            maps = self.qkv(tokens).chunk(3, dim=-1)
        else:
            maps = self.q(tokens), self.k(tokens), self.v(tokens)
        q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(1, 2) for a in maps)
        dropped = self.dropout.p if self.training else 0.0
        attended = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        return self.dropout(self.projection(attended.transpose(1, 2).flatten(2)))


class TokenMLP(nn.Module):
    """Two linear maps with a GELU between them, the same for every token."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        width = int(config.dim * config.mlp_ratio)
        self.expand = nn.Linear(config.dim, width)
        self.contract = nn.Linear(width, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Float[Tensor, "image token dim"]) -> Float[Tensor, "image token dim"]:
        """Return the transformed tokens."""
        h = self.dropout(functional.gelu(self.expand(tokens)))
        return self.dropout(self.contract(h))
