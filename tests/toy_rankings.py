"""Rankings of a gallery small enough to work out by hand; pictures are flat colours."""

import numpy as np
from PIL import Image

from reid_core.datasets.table import build
from reid_core.matching import Matched
from reproduction import ranklists
from reproduction.ranklists import Method

PLAIN, AGAIN = Method("hcn", "xqda", False), Method("hcn", "xqda", True)
OTHER = Method("baseline", "xqda", True)
PEOPLE = [(5, 1), (5, 2), (7, 2), (-1, 2), (0, 2), (5, 3)]  # person and camera of the gallery, number by number
ORDERS = {  # of the gallery for both queries, nearest first; both are person 5 in camera 1 and person 7 in camera 1
    PLAIN: ([0, 3, 2, 1, 5, 4], [0, 1, 2, 3, 4, 5]),
    AGAIN: ([0, 1, 5, 3, 2, 4], [0, 1, 2, 3, 4, 5]),
    OTHER: ([4, 2, 0, 3, 1, 5], [2, 0, 1, 3, 4, 5]),
}


def image_table(folder, subset, people):
    paths = []
    for number, (person, _) in enumerate(people):
        paths.append(str(folder / f"{subset}{number}.png"))
        Image.new("RGB", (20, 40), (40 * number + 5, 10 * (person + 1), 250)).save(paths[-1])
    return build("market1501", subset, *zip(*people, strict=True), paths)


def rankings(folder):
    """Rankings of the toy by three methods, and in `rankings.made` what was made, in order."""
    query, gallery = (image_table(folder, "query", [(5, 1), (7, 1)]), image_table(folder, "gallery", PEOPLE))

    def make(name, method):
        made.append((name, method))
        distance = np.argsort(ORDERS[method], axis=1).astype(np.float32)
        return ranklists.rank(Matched(distance, query.copy(), gallery.copy(), 0.0), "step")

    made = []
    rankings = ranklists.Rankings(make, {"market1501": ("baseline", "hcn"), "cuhk03_labeled": ("hcn",)})
    rankings.made = made
    return rankings
