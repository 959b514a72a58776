"""Small helpers that know nothing of torch, under the names that files of the StyleGAN family use."""

from . import util
from .util import EasyDict

__all__ = ["EasyDict", "util"]
