"""The networks that are published for transfer learning, by the names that the StyleGAN family gives to --resume."""

from __future__ import annotations

_FOLDER = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/"

# The number in a name is the resolution. All are unconditional and under the NVIDIA Source Code License
# (non-commercial use only).
PUBLISHED = {
    "ffhq256": f"{_FOLDER}ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": f"{_FOLDER}ffhq-res512-mirror-stylegan2-noaug.pkl",
    "ffhq1024": f"{_FOLDER}ffhq-res1024-mirror-stylegan2-noaug.pkl",
    "celebahq256": f"{_FOLDER}celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": f"{_FOLDER}lsundog-res256-paper256-kimg100000-noaug.pkl",
}
