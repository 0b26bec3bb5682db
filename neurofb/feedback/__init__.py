"""Pathways: how the error gets back through a layer, and how that way itself learns."""

from neurofb.feedback.attach import (
    PathwaySpec,
    attach,
    detach,
    exact_backward,
    feedback_layers,
    fired,
    pathway_parameters,
)
from neurofb.feedback.describe import Description, describe
from neurofb.feedback.direct import Direct
from neurofb.feedback.direct_random import DirectRandom
from neurofb.feedback.exact import Exact
from neurofb.feedback.factored_kolen_pollack import FactoredKolenPollack
from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.low_rank import LowRank
from neurofb.feedback.normative import Normative
from neurofb.feedback.oja import Oja
from neurofb.feedback.random import Random
from neurofb.feedback.shared import shared_batches
from neurofb.feedback.sign_symmetric import SignSymmetric
from neurofb.feedback.subspace import Subspace
from neurofb.feedback.svd_refresh import SvdRefresh
from neurofb.feedback.svd_space import SVDSpace
from neurofb.feedback.svd_space_direct import SVDSpaceDirect
from neurofb.feedback.targets import present_targets
from neurofb.feedback.weight_mirror import WeightMirror

__all__ = [
    "Description",
    "Direct",
    "DirectRandom",
    "Exact",
    "FactoredKolenPollack",
    "Fixed",
    "KolenPollack",
    "LowRank",
    "Normative",
    "Oja",
    "PathwaySpec",
    "Random",
    "SVDSpace",
    "SVDSpaceDirect",
    "SignSymmetric",
    "Subspace",
    "SvdRefresh",
    "WeightMirror",
    "attach",
    "describe",
    "detach",
    "exact_backward",
    "feedback_layers",
    "fired",
    "pathway_parameters",
    "present_targets",
    "shared_batches",
]
