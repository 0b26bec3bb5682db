"""Which modules of a network a name or a pattern means."""

import fnmatch

from torch import nn

from neurofb.feedback.direct import Direct
from neurofb.feedback.direct_random import DirectRandom
from neurofb.feedback.layers import FEEDBACK_CLASSES
from neurofb.feedback.route import Source
from neurofb.feedback.svd_space_direct import SVDSpaceDirect


def matching(network: nn.Module, pattern: str, spec: object) -> list[str]:
    """Return the names of the modules that a pathway is to lie on, each module's first name once.

    Parameters
    ----------
    network
        Any module.
    pattern
        A name as in ``network.named_modules()``, or a pattern with ``*`` (across dots too), ``?``,
        ``[…]``. A pattern means layers that can carry any pathway.
    spec
        The pathway; for a direct one a pattern that matches no layer means the outermost of the
        modules that it matches.

    Raises
    ------
    ValueError
        If nothing matches.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> matching(net, "*", None)
    ['0', '2']
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    layers = [name for name, module in modules.items() if layer_type(module) in FEEDBACK_CLASSES]
    names = [pattern] if pattern in modules else _filter(layers, pattern)
    if not names and isinstance(spec, Direct | DirectRandom | SVDSpaceDirect):
        names = _filter([name for name in modules if name], pattern)
        depth = min((name.count(".") for name in names), default=0)
        names = [name for name in names if name.count(".") == depth]
    if not names:
        kind = "pattern" if set(pattern) & set("*?[") else "layer name"
        raise ValueError(
            f"{kind} {pattern!r} matches no layer that can carry a pathway; those are: "
            f"{', '.join(layers) or 'none'}"
        )
    first = {module: name for name, module in network.named_modules()}
    return list(dict.fromkeys(first[modules[name]] for name in names))


def layer_type(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module, that of before if it is the source of a direct pathway.

    Examples
    --------
    >>> layer_type(nn.Linear(3, 2))
    <class 'torch.nn.modules.linear.Linear'>
    """
    return type(module).plain if isinstance(module, Source) else type(module)


def _filter(names: list[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
