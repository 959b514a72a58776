"""Directions in w: find them (`find`), keep them in files (`files`), move faces along them (`move`), those of photos,
too (`encoded`).

    >>> import facegen
    >>> from facegen.latents.directions import directions, move, spread
    >>> space = facegen.LatentSpace.open()
    >>> ws = space.from_seeds([7], space.classes.of_age(35))
    >>> found = directions(space.generator, layers="coarse")
    >>> steps = found * spread(space.generator, found)
    >>> picture = next(space.draw(move(ws, steps[:, 0], 1.5, "coarse")))
"""

from facegen.latents.directions.find import directions, spread
from facegen.latents.directions.move import move

__all__ = ["directions", "move", "spread"]
