"""Color profiles for tests, made of Pillow's sRGB one."""

from __future__ import annotations

import struct

from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# What sRGB calls red is green here: who ignores the profile shows other colors.
RED_IS_GREEN = SRGB.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


def gray_profile(exponent: float) -> bytes:
    """Return a profile of gray whose curve has another exponent than sRGB's 2.4."""
    profile = SRGB.replace(b"RGB ", b"GRAY", 1).replace(b"rTRC", b"kTRC")
    place = profile.index(b"para") + 12  # after type, reserved, function type: the exponent, as s15Fixed16
    return profile[:place] + struct.pack(">i", round(exponent * 65536)) + profile[place + 4 :]
