"""Gated [21]: a Siamese network that looks at both images of a pair (Varior, Haloi and Wang, ECCV 2016).

Between two convolutional blocks stands a *matching gate*. It sums up every row of the two feature maps by one
convolution as wide as the map (height 1, h channels to h), y = f(w * x), compares the two rows channel by channel,
g = exp(-(y1 - y2)^2 / p^2) with a learnt p, and boosts what they have in common: a = x + x g along the whole row, for
both images; then each place is brought to unit length over its channels. So an image's feature depends on the other.

On public record are these equations, that p starts high, contrastive loss on pairs, hard negatives and Euclidean
distance, but no code. Chosen by us: the layers (their baseline network is not rebuilt: five small blocks with batch
normalisation, one gate before the last, on a map of 8 rows), f a parametric ReLU, p = 4 at the start, 128x64 pixels,
margin 1 on features of unit length, Adam with a cosine schedule, and negatives mined in the batch: of all its pairs of
two people those within the margin. So the row re-creates the idea, not the network; their 65.88 / 39.55 is no target.

It is trained on the kit's own loop (`reid_core.training`) in batches of people with one image in each of two cameras;
of the recipe, the settings of backbone, dropout and heads are not used. For matching, blocks one to four and the sums
of rows are computed once an image; gate and last block run on every pair of query and gallery image, some 1.5 million
operations each. That block is small for this reason: Market-1501 has 66 million pairs, by count 30 minutes of one core
to train and 25 to match.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from reid_core import images, machine, training, weight_files
from reid_core.baselines.checks import fitted, training_people
from reid_core.datasets.table import CAMERA, LABEL, PERSON
from reid_core.progress import bar
from reid_core.training import run_folder
from reid_core.training.batches import Draw
from reid_core.training.recipe import Recipe
from reid_core.training.step import Objective

HEIGHT, WIDTH = 128, 64
MARGIN = 1.0


class Looks(NamedTuple):
    """What the network sees in n images alone: maps (n, h, 8, 4) and the gate's sums of their rows (n, h, 8, 1)."""

    maps: Tensor
    rows: Tensor

    def part(self, index) -> "Looks":
        return Looks(self.maps[index], self.rows[index])


class MatchingGate(nn.Module):
    """Boost what two feature maps of h channels and c columns share, row by row; `spread` is p at the start."""

    def __init__(self, channels: int, columns: int, spread: float = 4.0):
        super().__init__()
        self.summary = nn.Conv2d(channels, channels, (1, columns))
        self.activation = nn.PReLU()
        self.spread = nn.Parameter(torch.full((channels, 1, 1), spread))

    def summarise(self, maps: Tensor) -> Tensor:
        """Row sums (n, h, rows, 1) of maps (n, h, rows, c): all the gate needs to know of an image's rows."""
        return self.activation(self.summary(maps))

    def boost(self, maps: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """Gated maps of unit length over the channels, given the row sums of the image and of its partner."""
        gate = torch.exp(-((own - other) ** 2) / self.spread**2)
        return F.normalize(maps * (1 + gate), dim=1)


class GatedNetwork(nn.Module):
    """Trunk (each image alone), gate and head (each pair): images to the squared distances of their pairs."""

    def __init__(self, width: int = 32, dimension: int = 128):
        super().__init__()
        pool, narrow = nn.MaxPool2d(2), 2 * width
        self.trunk = nn.Sequential(
            *_block(3, width, 5, stride=2),  # 64 x 32
            pool,  # 32 x 16
            *_block(width, 2 * width, 3),
            *_block(2 * width, 3 * width, 3),
            pool,  # 16 x 8
            *_block(3 * width, narrow, 3),
            pool,  # 8 x 4
        )
        self.gate = MatchingGate(narrow, WIDTH // 16)
        self.head = nn.Sequential(*_block(narrow, narrow, 3, stride=2), nn.Flatten())  # 4 x 2
        self.feature = nn.Linear(narrow * 8, dimension)

    def look(self, pixels: Tensor) -> Looks:
        """What is seen in normalised images (n, 3, 128, 64) alone."""
        maps = self.trunk(pixels)
        return Looks(maps, self.gate.summarise(maps))

    def compare(self, first: Looks, second: Looks) -> Tensor:
        """Squared Euclidean distance (n,) of n pairs; one image may be compared with many."""
        a = self._feature(self.gate.boost(first.maps, first.rows, second.rows))
        b = self._feature(self.gate.boost(second.maps, second.rows, first.rows))
        return ((a - b) ** 2).sum(dim=1)

    def _feature(self, boosted: Tensor) -> Tensor:
        return F.normalize(self.feature(self.head(boosted)).float(), dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Squared distances (n, n) of all pairs of a first and a second view: the halves of (2 n, 3, 128, 64)."""
        seen, n = self.look(pixels), len(pixels) // 2
        # Expanded, not indexed: the gradient of an index with repeats adds up in whatever order the threads come.
        first = (x[:n, None].expand(-1, n, *x.shape[1:]).flatten(0, 1) for x in seen)
        second = (x[None, n:].expand(n, -1, *x.shape[1:]).flatten(0, 1) for x in seen)
        return self.compare(Looks(*first), Looks(*second)).reshape(n, n)


def _block(channels_in: int, channels_out: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def contrastive_loss(squared: Tensor, same: Tensor) -> Tensor:
    """Mean squared distance of pairs of one person plus mean (margin - distance)^2 of the hard pairs of two.

    squared, same: of one shape, same bool. A pair of two people is hard if it is nearer than the margin; others count
    nothing.

    >>> contrastive_loss(torch.tensor([0.25, 0.25, 1.5]), torch.tensor([True, False, False])).item()
    0.5
    """
    near = (MARGIN - squared.clamp(min=1e-12).sqrt()).clamp(min=0)[~same]
    return squared[same].mean() + (near**2).sum() / (near > 0).sum().clamp(min=1)


class PairSampler:
    """Batches of people with one image in each of two cameras: first views, then second views in the same order.

    >>> person, camera = np.array([5, 5, 9, 9]), np.array([1, 2, 1, 2])
    >>> rows = PairSampler(person, camera, Recipe(batch_size=4)).draw(0).rows
    >>> sorted(rows.tolist()), (person[rows[:2]] == person[rows[2:]]).tolist()
    ([0, 1, 2, 3], [True, True])
    """

    def __init__(self, person: np.ndarray, camera: np.ndarray, recipe: Recipe):
        self.camera, self.recipe, self.people = camera, recipe, in_two_cameras(person, camera)

    def draw(self, iteration: int) -> Draw:
        """The batch of iteration 0, 1, ..., a function of the seed and the iteration."""
        n, rng = self.recipe.batch_size, np.random.default_rng([self.recipe.seed, 2, iteration])
        first, second = [], []
        for rows in (self.people[number] for number in rng.permutation(len(self.people))[: n // 2]):
            one = rng.choice(rows)
            first.append(one)
            second.append(rng.choice(rows[self.camera[rows] != self.camera[one]]))
        mirror = rng.random(n) < (0.5 if self.recipe.mirror else 0.0)
        still = np.zeros((n, 6), np.int64)
        return Draw(np.array(first + second), mirror, still[:, :2], still[:, 2:])


def in_two_cameras(person: np.ndarray, camera: np.ndarray) -> list[np.ndarray]:
    """Rows of each person who was seen by two cameras."""
    people = [np.flatnonzero(person == number) for number in np.unique(person)]
    return [rows for rows in people if len(np.unique(camera[rows])) > 1]


class PairObjective(Objective):
    """Pair training on the kit's loop; `width`: channels of the first block."""

    name, parallel = "gated", False

    def __init__(self, width: int):
        self.width = width
        self.settings = {"width": width, "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}

    def network(self, num_classes: int, recipe: Recipe) -> nn.Module:
        return GatedNetwork(self.width)

    def optimizer(self, network: nn.Module, recipe: Recipe) -> optim.Optimizer:
        """Adam at `base_lr`, its moments made at once: a checkpoint is restored into them."""
        group = {"params": list(network.parameters()), "multiplier": 1.0}
        adam = optim.Adam([group], recipe.base_lr, weight_decay=recipe.weight_decay)
        for parameter in group["params"]:
            first, second = (torch.zeros_like(parameter, requires_grad=False) for _ in range(2))
            adam.state[parameter] = {"step": torch.tensor(0.0), "exp_avg": first, "exp_avg_sq": second}
        return adam

    def sampler(self, table: pd.DataFrame, recipe: Recipe) -> PairSampler:
        return PairSampler(table[PERSON].to_numpy(), table[CAMERA].to_numpy(), recipe)

    def heads(self, network: nn.Module) -> list[str]:
        return ["contrastive"]

    def losses(self, squared: Tensor, labels: Tensor) -> Tensor:
        first, second = labels.chunk(2)
        return contrastive_loss(squared, first[:, None] == second).reshape(1)

    def form(self, network: nn.Module, recipe: Recipe) -> str:
        return "pairs"


class Gated:
    """Gated Siamese network, trained on pairs: the `GatedNetwork` `network_`, in evaluation mode, in `seconds_`.

    Parameters
    ----------
    passes : how often the training images are seen; iterations = passes x images / (2 x people a batch).
    people : people in a batch, each with one image in each of two cameras.
    learning_rate : of Adam, at the start of its cosine schedule.
    width : channels of the first block (the others have two or three times as many).
    random_state : seed (int) of initial weights, batches and mirroring.
    device : "cpu", "cuda", ...; None: a GPU where there is one.
    """

    def __init__(self, passes=50, people=16, learning_rate=1e-3, width=32, random_state=0, device=None):
        if passes <= 0 or people < 2 or learning_rate <= 0 or width < 1:
            given = f"passes={passes}, learning_rate={learning_rate} and width={width}"
            raise ValueError(f"{given} must be positive and people={people} at least 2.")
        self.passes, self.people, self.learning_rate, self.width = passes, people, learning_rate, width
        self.random_state, self.device = random_state, device

    def asked(self, table: pd.DataFrame) -> tuple[PairObjective, pd.DataFrame, Recipe]:
        """What `training.train` is asked for: objective, labelled images, recipe, of an image table's people. Raises
        ValueError for one person, one image per person or one camera."""
        person, camera = table[PERSON].to_numpy(), table[CAMERA].to_numpy()
        training_people(person, camera, "The gated network")
        people = min(self.people, len(in_two_cameras(person, camera)))
        if people < 2:
            raise ValueError("The gated network needs two or more people who were seen by two cameras.")
        labelled = table.assign(**{LABEL: np.unique(person, return_inverse=True)[1]})
        return PairObjective(self.width), labelled, self.recipe(len(table), people)

    def fit(self, table: pd.DataFrame, run_dir: str | Path, *, data_root: str | Path) -> "Gated":
        """Train on an image table's people in a run folder, or find there what was trained on it by the same settings
        and code; another run there is moved aside. Raises what `asked` and `training.train` raise."""
        objective, labelled, recipe = self.asked(table)
        how = {"recipe": recipe, "data_root": data_root, "device": self.device, "other_recipe": "set_aside"}
        training.train(objective, labelled, run_dir, **how)
        self.seconds_ = run_folder.read(run_dir)["seconds"]
        device = machine.choose(self.device)
        self.network_ = GatedNetwork(self.width).to(device, memory_format=torch.channels_last).eval()
        path = Path(run_dir) / run_folder.WEIGHTS
        weight_files.load_state(self.network_, weight_files.read(path), str(path), "the gated network of its run")
        return self

    def recipe(self, n_images: int, people: int) -> Recipe:
        """The recipe of a training on so many images, with so many people in a batch."""
        schedule = {"base_lr": self.learning_rate, "lr_schedule": "cosine", "weight_decay": 0.0}
        schedule |= {"batch_size": 2 * people, "iterations": max(1, round(self.passes * n_images / (2 * people)))}
        network = {"weights": "random", "batchnorm": "live", "height": HEIGHT, "width": WIDTH}
        return Recipe(**network, **schedule, precision="auto", seed=self.random_state)

    @torch.inference_mode()
    def look(self, table: pd.DataFrame) -> Looks:
        """What the network sees in each image of a table alone, on its device."""
        fitted(self, "network_")
        device = next(self.network_.parameters()).device
        found = [self.network_.look(pixels) for pixels in images.streamed(table, HEIGHT, WIDTH, 64, device, "Gated")]
        parts = (torch.cat(part) for part in zip(*found, strict=True))
        return Looks(*(part.contiguous(memory_format=torch.channels_last) for part in parts))

    @torch.inference_mode()
    def compare(self, query: Looks, gallery: Looks) -> np.ndarray:
        """Squared Euclidean distance of every pair's two gated features, (Q, G) float32."""
        out = np.empty((len(query.maps), len(gallery.maps)), np.float32)
        # Pairs at a time: what fits a processor's cache, what fills a GPU.
        pairs = 256 if query.maps.device.type == "cpu" else 8192
        for row in bar(range(len(out)), desc="Gated matching", unit="query"):
            one = query.part(slice(row, row + 1))
            parts = (gallery.part(slice(start, start + pairs)) for start in range(0, out.shape[1], pairs))
            out[row] = torch.cat([self.network_.compare(one, part) for part in parts]).cpu()
        return out

    def distance(self, query: pd.DataFrame, gallery: pd.DataFrame) -> np.ndarray:
        """`compare` of what is seen in the images of two tables, (Q, G) float32."""
        return self.compare(self.look(query), self.look(gallery))
