"""Draw pictures wider or taller than a generator was trained for, with the same network.

The blocks up to 8x8 run as trained, so the layout stays intact. Then features and picture are extended beyond their
borders, repeated or mirrored, and all later blocks run on the larger area; the finished picture is cropped. When
extended at 4x4, faces melt into their neighbors; at 16x16, mirrored ones fall apart.
"""

from __future__ import annotations

import torch
from torch.func import functional_call

from facegen.errors import FacegenError
from facegen.networks import layers
from facegen.networks.generator import SynthesisBlock, SynthesisNetwork

# How features continue beyond their borders: whether mirrored, else repeated; and whether on both sides, else at the
# right and the bottom.
SCALE_TYPES = {"pad": (False, True), "padside": (False, False), "symm": (True, True), "symmside": (True, False)}
CONTINUED_AT = 8  # the resolution whose features are continued


def check_size(network: SynthesisNetwork, size: tuple[int, int]) -> None:
    """Raise a FacegenError if a network cannot draw pictures of this width and height."""
    width, height = size
    resolution = network.img_resolution
    if width % 2 or height % 2:
        raise FacegenError(f"a size of {width}x{height} is odd: videos need even sides")
    if min(size) < resolution:
        raise FacegenError(
            f"a size of {width}x{height} is smaller than the network's {resolution}x{resolution}: a side can only "
            "grow, as less would cut through faces; draw larger and crop"
        )
    channels = getattr(network, f"b{resolution}").conv1.weight.shape[0]
    if width * height * channels > layers.MAX_FEATURES:
        raise FacegenError(f"a size of {width}x{height} is too large for this network of {channels} channels")


def synthesize(
    network: SynthesisNetwork,
    ws: torch.Tensor,
    size: tuple[int, int] | None = None,
    scale_type: str = "pad",
    *,
    const: torch.Tensor | None = None,
    noise_mode: str = "const",
    force_fp32: bool | None = None,
) -> torch.Tensor:
    """Turn ws `[N, num_ws, w_dim]` into pictures `[N, img_channels, height, width]`, about -1..1.

    Args:
        network: as it was trained; nothing in it changes.
        size: width and height, see `check_size`; None for the network's own.
        scale_type: one of `SCALE_TYPES`. Stored noise is continued as the features are.
        const: takes the place of the network's constant, `[N, channels, 4, 4]`.
        noise_mode, force_fp32: as in `SynthesisNetwork.forward`.
    """
    resolution = network.img_resolution
    width, height = size or (resolution, resolution)
    if const is None and width == height == resolution:
        return network(ws, noise_mode=noise_mode, force_fp32=force_fp32)
    continued_at = min(CONTINUED_AT, resolution)
    unit = resolution // continued_at  # pixels of the picture that one of the continued features becomes
    rows, columns = -(-height // unit), -(-width // unit)
    x = img = None
    first = 0
    for r in network.block_resolutions:
        block, factor = getattr(network, f"b{r}"), r // continued_at
        swapped = {"const": const} if r == 4 and const is not None else {}
        mode = noise_mode
        if factor > 1 and noise_mode != "none":
            shape = (len(ws), rows * factor, columns * factor)
            swapped, mode = _noise(block, shape, scale_type, noise_mode == "random"), "const"
        block_ws = ws[:, first : first + block.num_conv + 1]
        x, img = functional_call(block, swapped, (x, img, block_ws, mode, force_fp32, None))
        first += block.num_conv
        if factor == 1:
            x = _continued(x, rows, columns, scale_type)
            img = None if img is None else _continued(img, rows, columns, scale_type)
    assert img is not None  # the last block draws in every architecture
    centered = SCALE_TYPES[scale_type][1]
    top, left = ((img.shape[2] - height) // 2, (img.shape[3] - width) // 2) if centered else (0, 0)
    return img[:, :, top : top + height, left : left + width]


def _noise(
    block: SynthesisBlock, shape: tuple[int, int, int], scale_type: str, is_random: bool
) -> dict[str, torch.Tensor]:
    """The noise of a block for N pictures of some height and width, in place of its buffers, drawn or continued."""
    count, height, width = shape
    stored = {name: noise for name, noise in block.named_buffers() if name.endswith("noise_const")}
    if is_random:
        return {name: torch.randn([count, 1, height, width], device=noise.device) for name, noise in stored.items()}
    return {name: _continued(noise, height, width, scale_type) for name, noise in stored.items()}


def _continued(x: torch.Tensor, height: int, width: int, scale_type: str) -> torch.Tensor:
    """Continue `[..., H, W]` beyond its borders: `[..., height, width]`."""
    is_mirrored, is_centered = SCALE_TYPES[scale_type]
    for dim, length in ((-2, height), (-1, width)):
        own = x.shape[dim]
        index = torch.arange(length, device=x.device) - ((length - own) // 2 if is_centered else 0)
        index = index % (2 * own) if is_mirrored else index % own
        x = x.index_select(dim, torch.where(index < own, index, 2 * own - 1 - index))
    return x
