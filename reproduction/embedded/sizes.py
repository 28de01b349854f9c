"""How many people and images of each set the renderer makes."""

import dataclasses
import json
from dataclasses import dataclass

PAIR_PEOPLE = (843, 440, 77, 58, 49)
"""People of CUHK03's five camera pairs in the official release; they sum to 1,467."""

NP_TEST_SHARE = 700 / 1467
"""Share of CUHK03's people that the new protocol of Zhong et al. (CVPR 2017) takes for test."""


@dataclass(frozen=True)
class Market1501Sizes:
    """Counts of the Market-1501 folders; `good_images` are gallery images of the test people."""

    train_people: int = 751
    train_images: int = 12_936
    test_people: int = 750
    query_images: int = 3_368
    good_images: int = 13_115
    distractor_images: int = 2_798
    junk_images: int = 3_819

    @property
    def images(self) -> int:
        return self.train_images + self.query_images + self.good_images + self.distractor_images + self.junk_images


@dataclass(frozen=True)
class CUHK03Sizes:
    """People of the five camera pairs and images of both forms, as the new protocol splits them.

    Every test person gives two queries, one a view, so their number needs no field."""

    pair_people: tuple[int, ...] = PAIR_PEOPLE
    labeled_train_images: int = 7_368
    labeled_gallery_images: int = 5_328
    detected_train_images: int = 7_365
    detected_gallery_images: int = 5_332

    people = property(lambda self: sum(self.pair_people))

    test_people = property(lambda self: round(self.people * NP_TEST_SHARE),
                           doc="Of the new protocol: 700 of 1,467, else the nearest to that share.")  # fmt: skip

    def images(self, boxes: str) -> int:
        """All images of one form (`labeled` or `detected`): train, two queries a test person, gallery."""
        train = getattr(self, f"{boxes}_train_images")
        return train + 2 * self.test_people + getattr(self, f"{boxes}_gallery_images")


@dataclass(frozen=True)
class CUHK01Sizes:
    """People of CUHK01, each with two images of either camera."""

    people: int = 971

    images = property(lambda self: 4 * self.people)


@dataclass(frozen=True)
class Sizes:
    """Counts of all three embedded data sets; the default is the full size, Table 1 of the paper.

    >>> Sizes().market1501.train_images, Sizes().cuhk03.images("labeled"), Sizes().cuhk01.images
    (12936, 14096, 3884)
    >>> Sizes.smoke().cuhk03.test_people
    120
    """

    market1501: Market1501Sizes = Market1501Sizes()
    cuhk03: CUHK03Sizes = CUHK03Sizes()
    cuhk01: CUHK01Sizes = CUHK01Sizes()

    @classmethod
    def full(cls) -> "Sizes":
        """Table 1 of the paper: 1,501, 1,467 and 971 people and all their images."""
        return cls()

    @classmethod
    def share(cls, fraction: float) -> "Sizes":
        """All counts of the full size times `fraction` (0 < fraction <= 1), each rounded.

        Raises ValueError if `fraction` is outside that range or leaves a set with too few people."""
        if not 0 < fraction <= 1:
            raise ValueError(f"The share of the full size must lie in (0, 1], but it is {fraction!r}.")
        return cls(
            Market1501Sizes(**{k: round(v * fraction) for k, v in dataclasses.asdict(Market1501Sizes()).items()}),
            cuhk03_share(round(sum(PAIR_PEOPLE) * fraction)),
            CUHK01Sizes(round(CUHK01Sizes().people * fraction)),
        ).checked()

    @classmethod
    def smoke(cls) -> "Sizes":
        """About 4,900 images: minutes of training on two CPU cores. Of test people 120 a set, with few images each:
        how far a score is off depends on how many people it is of."""
        campus = CUHK03Sizes(cuhk03_share(251).pair_people, 700, 600, 698, 602)
        return cls(Market1501Sizes(60, 650, 120, 240, 480, 120, 160), campus, CUHK01Sizes(40)).checked()

    @classmethod
    def tiny(cls) -> "Sizes":
        """A few hundred images for tests."""
        return cls(Market1501Sizes(12, 72, 12, 24, 72, 12, 16), cuhk03_share(24), CUHK01Sizes(8)).checked()

    @classmethod
    def named(cls, name: str | float) -> "Sizes":
        """The sizes a profile names: "tiny", "smoke", "full", or a share of the full size as text ("0.2").

        >>> Sizes.named("0.2").cuhk01.people
        194
        """
        if name in ("tiny", "smoke", "full"):
            return getattr(cls, name)()
        try:
            share = float(name)
        except ValueError:
            known = "tiny, smoke, full or a share of the full size such as '0.2'"
            raise ValueError(f"render_sizes is {name!r}; it is {known}.") from None
        return cls.share(share)

    @property
    def images(self) -> int:
        """All images of all data sets; both forms of CUHK03 count."""
        return self.market1501.images + sum(map(self.cuhk03.images, ("labeled", "detected"))) + self.cuhk01.images

    def as_dict(self) -> dict:
        """Plain dictionaries, lists and integers, fit for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def checked(self) -> "Sizes":
        """Return self; raise ValueError, naming the count, if no data set of these sizes can exist."""
        m, c = self.market1501, self.cuhk03
        others = c.people - c.test_people
        limits = {  # field: (least, value, most)
            "market1501.train_people": (2, m.train_people, 5_000),
            "market1501.test_people": (2, m.test_people, 4_999),
            "market1501.train_images": (2 * m.train_people, m.train_images, 100 * m.train_people),
            "market1501.query_images": (2 * m.test_people, m.query_images, 6 * m.test_people),
            "market1501.good_images": (m.query_images, m.good_images, 40 * m.query_images),
            "market1501.distractor_images": (0, m.distractor_images, 500_000),
            "market1501.junk_images": (0, m.junk_images, 500_000),
            "cuhk03.pair_people, their sum": (8, c.people, 9_999),
            "cuhk03.pair_people, the smallest": (1, min(c.pair_people, default=0), 9_999),
            "cuhk03.pair_people, how many pairs": (5, len(c.pair_people), 5),
            "cuhk01.people": (2, self.cuhk01.people, 9_999),
        }
        for form in ("labeled", "detected"):
            train, gallery = (getattr(c, f"{form}_{part}_images") for part in ("train", "gallery"))
            most = 10 * others - 4 * (scarce_people(c.people) + 1)
            limits[f"cuhk03.{form}_train_images"] = (4 * others, train, most)
            limits[f"cuhk03.{form}_gallery_images"] = (2 * c.test_people, gallery, 8 * c.test_people)
        for name, (least, value, most) in limits.items():
            if not least <= value <= most:
                raise ValueError(f"The embedded data's {name} must lie between {least} and {most}, but it is {value}.")
        return self


def scarce_people(people: int) -> int:
    """How many of CUHK03's people have a single image in one view: 12 of 1,467 in the official release."""
    return round(people * 12 / 1467)


def cuhk03_share(people: int) -> CUHK03Sizes:
    """CUHK03 of `people` people with the official shares of pairs and of images a person."""
    full = CUHK03Sizes()
    exact = [people * count / full.people for count in PAIR_PEOPLE]
    pairs = [max(1, int(count)) for count in exact]
    while sum(pairs) != people:
        step = 1 if sum(pairs) < people else -1
        pairs[max(range(5), key=lambda k: step * (exact[k] - pairs[k]))] += step
    test = round(people * NP_TEST_SHARE)
    counts = {
        f"{boxes}_{part}_images": round(getattr(full, f"{boxes}_{part}_images") * now / then)
        for boxes in ("labeled", "detected")
        for part, now, then in (("train", people - test, 767), ("gallery", test, 700))
    }
    for part, change in (("train", -1), ("gallery", 2)):  # the two forms never have as many
        if counts[f"labeled_{part}_images"] == counts[f"detected_{part}_images"]:
            counts[f"detected_{part}_images"] += change
    return CUHK03Sizes(tuple(pairs), **counts)


def bytes_needed(sizes: Sizes) -> int:
    """Upper estimate of the rendered files' bytes, from the mean file size of each layout."""
    boxes = sum(map(sizes.cuhk03.images, ("labeled", "detected")))
    return 2_000_000 + 4_600 * sizes.market1501.images + 26_000 * boxes + 18_000 * sizes.cuhk01.images
