"""Small helpers that know nothing of torch, under the names that files of the StyleGAN family use."""

from dnnlib import util
from dnnlib.util import EasyDict

__all__ = ["EasyDict", "util"]
