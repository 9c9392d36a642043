"""Modules of PyTorch from our specs, and specs of ours from modules of PyTorch.

>>> import keepbest.torch, torch
>>> model = keepbest.torch.build("resnet18", input=(3, 32, 32), classes=10)
>>> model(torch.zeros(2, 3, 32, 32)).shape
torch.Size([2, 10])

:func:`build` makes a module of a spec, a name that ``keepbest models`` lists, or a model file; :func:`load` a module of a trained model, with its
classes and with what makes its input of images; :func:`spec_of` a spec of a module, so that :class:`keepbest.Keeper` saves models that open without
its code.
"""

from keepbest.torch._build import Network, build
from keepbest.torch._load import Transform, load, preprocessing
from keepbest.torch._record import Unsupported
from keepbest.torch._spec_of import CannotDescribe, spec_of

__all__ = ["CannotDescribe", "Network", "Transform", "Unsupported", "build", "load", "preprocessing", "spec_of"]
