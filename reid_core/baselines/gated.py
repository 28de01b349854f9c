"""Gated [21]: a Siamese network that looks at both images of a pair (Varior, Haloi and Wang, ECCV 2016).

Between two convolutional blocks of a Siamese network stands a *matching gate*. It sums up every row of the two
feature maps by one convolution as wide as the map (height 1, h channels to h), y = f(w * x), compares the two
rows channel by channel, g = exp(-(y1 - y2)^2 / p^2) with a learnt p, and boosts what they have in common:
a = x + x g along the whole row, for both images; then each place is brought to unit length over its channels.
So an image's feature depends on the image it is compared with. The two are trained together on pairs by the
contrastive loss, with hard negative pairs; people are compared by Euclidean distance.

Known from the public record: the gate's equations, that p starts high, contrastive loss, hard negatives,
Euclidean distance. No code was released. Not on record or not followed, and chosen by us: the layers (their
baseline network is not rebuilt: five small blocks with batch normalisation, one gate before the last, on a map of
8 rows), f a parametric ReLU, p = 4 at the start, 128x64 pixels, margin 1 on features of unit length, Adam with
a cosine schedule, and negatives mined in the batch: of all its pairs of two people those within the margin.
The row is therefore a re-creation of the idea, not of the authors' network; their 65.88 / 39.55 is no target.

Matching runs the last block on every pair of query and gallery image, so it costs far more than comparing vectors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from reid_core.baselines.checks import fitted, training_set
from reid_core.baselines.images import Images, batches, count

HEIGHT, WIDTH = 128, 64
MARGIN = 1.0


class MatchingGate(nn.Module):
    """Boost what two feature maps have in common, row by row.

    `channels` h and `columns` c of the maps; `spread` is p at the start, one for each channel.
    """

    def __init__(self, channels: int, columns: int, spread: float = 4.0):
        super().__init__()
        self.summary = nn.Conv2d(channels, channels, (1, columns))
        self.activation = nn.PReLU()
        self.spread = nn.Parameter(torch.full((channels, 1, 1), spread))

    def summarise(self, maps: Tensor) -> Tensor:
        """Row summaries (n, h, rows, 1) of maps (n, h, rows, c): all the gate needs to know of an image's rows."""
        return self.activation(self.summary(maps))

    def boost(self, maps: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Gated maps of unit length over the channels, given the summaries of the image and of its partner."""
        gate = torch.exp(-((own - other) ** 2) / self.spread**2)
        return F.normalize(maps + maps * gate, dim=1)


class GatedNetwork(nn.Module):
    """Trunk (each image alone), gate, head (each pair): 128x64 pixels to pairs of features of unit length."""

    def __init__(self, width: int = 32, dimension: int = 256):
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.trunk = nn.Sequential(
            *_block(3, width, 5, stride=2),  # 64 x 32
            pool,  # 32 x 16
            *_block(width, 2 * width, 3),
            *_block(2 * width, 3 * width, 3),
            pool,  # 16 x 8
            *_block(3 * width, 3 * width, 3),
            pool,  # 8 x 4
        )
        self.gate = MatchingGate(3 * width, WIDTH // 16)
        self.head = nn.Sequential(*_block(3 * width, 3 * width, 3), pool, nn.Flatten())  # 4 x 2
        self.feature = nn.Linear(3 * width * 8, dimension)

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (n, h, 8, 4) and their row summaries (n, h, 8, 1) of uint8 RGB images (n, 128, 64, 3)."""
        x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        maps = self.trunk(x)
        return maps, self.gate.summarise(maps)

    def compare(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Squared Euclidean distance (n,) of n pairs, each given by what `look` made of its images."""
        boosted = [
            self.gate.boost(first[0], first[1], second[1]),
            self.gate.boost(second[0], second[1], first[1]),
        ]
        features = F.normalize(self.feature(self.head(torch.cat(boosted))), dim=1)
        a, b = features.chunk(2)
        return ((a - b) ** 2).sum(dim=1)


def _block(channels_in: int, channels_out: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def contrastive_loss(squared: Tensor, same: Tensor) -> Tensor:
    """Mean squared distance of pairs of one person plus mean (margin - distance)^2 of the hard pairs of two.

    squared (n,), same (n,) bool. A pair of two people is hard if it is nearer than the margin; others count nothing.

    >>> contrastive_loss(torch.tensor([0.25, 0.25, 1.5]), torch.tensor([True, False, False])).item()
    0.5
    """
    near = (MARGIN - squared.clamp(min=1e-12).sqrt()).clamp(min=0)[~same]
    return squared[same].mean() + (near**2).sum() / (near > 0).sum().clamp(min=1)


class Gated:
    """Gated Siamese network, trained on pairs.

    Args:
        passes: how often the training images are seen; iterations = passes x images / (2 x people a batch).
        people: people in a batch, each with one image in each of two cameras.
        learning_rate: of Adam, at the start of its cosine schedule.
        width: channels of the first block (the others have two or three times as many).
        random_state: seed (int) of initial weights, batches and mirroring.
        device: "cpu", "cuda", ...; None: a GPU where there is one.

    Attributes (after fit):
        network_: the trained `GatedNetwork`, in evaluation mode.   losses_: (iterations,) float32.
    """

    def __init__(self, passes=50, people=16, learning_rate=1e-3, width=32, random_state=0, device=None):
        if passes <= 0 or people < 2 or learning_rate <= 0 or width < 1:
            raise ValueError(
                f"passes={passes}, learning_rate={learning_rate} and width={width} must be positive and "
                f"people={people} at least 2."
            )
        self.passes, self.people, self.learning_rate, self.width = passes, people, learning_rate, width
        self.random_state, self.device = random_state, device

    def fit(self, images: Images, person_id, camera_id, *, progress: bool = True) -> Gated:
        """Train on images (a table, paths or a uint8 array) of people `person_id` (n,) in cameras `camera_id` (n,).

        Raises ValueError for lengths that disagree, one person, one image per person or one camera, and what
        `reid_core.baselines.images.batches` raises.
        """
        n = count(images)
        training_set(np.zeros((n, 1)), person_id, camera_id, "The gated network")
        draws = PairSampler(np.asarray(person_id), np.asarray(camera_id), self.people, self.random_state)
        pixels = np.concatenate(
            [p for _, p in batches(images, HEIGHT, WIDTH, progress=progress, description="Gated")]
        )
        pixels = torch.from_numpy(pixels)
        device = self._device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.network_ = GatedNetwork(self.width).to(device).train()
        iterations = max(1, round(self.passes * n / (2 * draws.people)))
        optimiser = torch.optim.Adam(self.network_.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
        losses = torch.empty(iterations)
        bar = tqdm(
            range(iterations), desc="Gated training", unit="iteration", leave=False, disable=not progress
        )
        for iteration in bar:
            rows, mirrored = draws.draw()
            batch = pixels[rows]
            batch[mirrored] = batch[mirrored].flip(2)
            loss = self._loss(batch.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses[iteration] = loss.detach()
        self.losses_ = losses.numpy()
        self.network_.eval()
        return self

    def _loss(self, batch: Tensor) -> Tensor:
        """Contrastive loss of all pairs of a first and a second view in a batch: (2 people, 128, 64, 3)."""
        maps, rows = self.network_.look(batch)
        people = len(batch) // 2
        i, j = torch.cartesian_prod(*[torch.arange(people, device=maps.device)] * 2).T
        squared = self.network_.compare((maps[i], rows[i]), (maps[people + j], rows[people + j]))
        return contrastive_loss(squared, i == j)

    def distance(self, query_images: Images, gallery_images: Images, *, progress: bool = True) -> np.ndarray:
        """Squared Euclidean distance of every pair's two gated features, (Q, G) float32."""
        fitted(self, "network_")
        query, gallery = (self._look(images, progress) for images in (query_images, gallery_images))
        out = np.empty((len(query[0]), len(gallery[0])), np.float32)
        pairs = (
            512 if query[0].device.type == "cpu" else 8192
        )  # at a time: fits a processor's cache, fills a GPU
        bar = tqdm(range(len(out)), desc="Gated matching", unit="query", leave=False, disable=not progress)
        with torch.inference_mode():
            for row in bar:
                one = [part[row : row + 1] for part in query]
                for start in range(0, out.shape[1], pairs):
                    many = [part[start : start + pairs] for part in gallery]
                    found = self.network_.compare(
                        [part.expand(len(many[0]), -1, -1, -1) for part in one], many
                    )
                    out[row, start : start + pairs] = found.cpu()
        return out

    def _look(self, images: Images, progress: bool) -> tuple[Tensor, Tensor]:
        device = self._device()
        with torch.inference_mode():
            found = [
                self.network_.look(torch.from_numpy(pixels).to(device))
                for _, pixels in batches(images, HEIGHT, WIDTH, progress=progress, description="Gated")
            ]
        maps, rows = zip(*found, strict=True)
        return torch.cat(maps), torch.cat(rows)

    def _device(self) -> torch.device:
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))


class PairSampler:
    """Batches of people with one image in each of two cameras, and which of the images are mirrored.

    >>> sampler = PairSampler(np.array([5, 5, 9, 9]), np.array([1, 2, 1, 2]), people=2, random_state=0)
    >>> rows, _ = sampler.draw()
    >>> sorted(rows.tolist()), np.array([5, 5, 9, 9])[rows[:2]].tolist() == np.array([5, 5, 9, 9])[rows[2:]].tolist()
    ([0, 1, 2, 3], True)
    """

    def __init__(self, person: np.ndarray, camera: np.ndarray, people: int, random_state: int):
        self.random = np.random.RandomState(random_state)
        self.camera = camera
        images = [np.flatnonzero(person == number) for number in np.unique(person)]
        self.images = [rows for rows in images if len(np.unique(camera[rows])) > 1]
        if len(self.images) < 2:
            raise ValueError("The gated network needs two or more people who were seen by two cameras.")
        self.people = min(people, len(self.images))

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (2 people,): the first views, then the second views in the same order; mirrored (2 people,) bool."""
        first, second = [], []
        for number in self.random.permutation(len(self.images))[: self.people]:
            rows = self.images[number]
            one = self.random.choice(rows)
            first.append(one)
            second.append(self.random.choice(rows[self.camera[rows] != self.camera[one]]))
        return np.array(first + second), self.random.rand(2 * self.people) < 0.5
