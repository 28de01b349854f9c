"""Embedded data: pedestrians drawn by the kit itself, in the official layouts of all three data sets.

`render` fills a data folder that the ordinary loaders read like official data. A person has a build, hair, garments
with colours and patterns, shoes and carried things; a camera has a place, light, colour cast, resolution, blur and
noise, its own response to colours; a picture has a pose of the walk, a heading, a box and now and then an occluder.

>>> from reproduction.embedded import Sizes, plan
>>> len(plan.market1501(Sizes.full().market1501, seed=0))
36036
"""

from reproduction.embedded.rendering import VERSION, render
from reproduction.embedded.sizes import CUHK01Sizes, CUHK03Sizes, Market1501Sizes, Sizes
from reproduction.embedded.strengths import Strengths

__all__ = ["VERSION", "CUHK01Sizes", "CUHK03Sizes", "Market1501Sizes", "Sizes", "Strengths", "render"]
