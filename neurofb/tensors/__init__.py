"""Low-rank decomposition of noisy tensors: priors, approximate message passing, least squares."""

from neurofb.tensors.als import TensorALS
from neurofb.tensors.amp import TensorAMP
from neurofb.tensors.amp_input import start_factors
from neurofb.tensors.bernoulli_gauss import BernoulliGaussPrior
from neurofb.tensors.gaussian import GaussianPrior
from neurofb.tensors.problem import PlantedTensor, TensorProblem
from neurofb.tensors.products import SharedProducts, mttkrp
from neurofb.tensors.protocol import DenoiserPrior, Prior
from neurofb.tensors.rademacher import RademacherPrior
from neurofb.tensors.scores import factor_match, mode_overlaps, tensor_error

__all__ = [
    "BernoulliGaussPrior",
    "DenoiserPrior",
    "GaussianPrior",
    "PlantedTensor",
    "Prior",
    "RademacherPrior",
    "SharedProducts",
    "TensorALS",
    "TensorAMP",
    "TensorProblem",
    "factor_match",
    "mode_overlaps",
    "mttkrp",
    "start_factors",
    "tensor_error",
]
