"""Batches for training: drawn by the seed, then gathered, augmented and normalised on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_core.images import normalise
from reid_core.training.recipe import Recipe


@dataclass(frozen=True)
class Draw:
    """What chance decides about one batch of n images: which, and how each is augmented."""

    rows: np.ndarray  # (n,) int64
    mirror: np.ndarray  # (n,) bool
    shift: np.ndarray  # (n, 2) int64, down and right, pixels
    box: np.ndarray  # (n, 4) int64, the blanked top, left, bottom, right (the last two excluded; all 0: none)

    def shard(self, rank: int, processes: int) -> "Draw":
        """This process's equal share of the batch."""
        n = len(self.rows) // processes
        part = slice(rank * n, (rank + 1) * n)
        return Draw(self.rows[part], self.mirror[part], self.shift[part], self.box[part])


class Sampler:
    """The batches of a run: a function of recipe, number of images and iteration, so resuming needs no state.

    The images come in one endless stream, shuffled anew in every epoch, cut into batches without regard to the
    epochs' ends, as Caffe's data layer does. The order depends on the seed alone, not on the model.

    >>> [Sampler(5, Recipe(batch_size=2, iterations=5)).draw(i).rows.tolist() for i in range(5)]
    [[2, 4], [3, 0], [1, 1], [3, 4], [2, 0]]
    """

    def __init__(self, images: int, recipe: Recipe):
        self.images, self.recipe = images, recipe
        self._epoch, self._order = None, None

    def draw(self, iteration: int) -> Draw:
        """The batch of iteration 0, 1, ..."""
        r, n = self.recipe, self.recipe.batch_size
        rows = self._rows(iteration * n, n)
        rng = np.random.default_rng([r.seed, 1, iteration])
        mirror = rng.random(n) < (0.5 if r.mirror else 0.0)
        shift = rng.integers(-r.crop_padding, r.crop_padding, (n, 2), endpoint=True)
        area, aspect = rng.uniform(0.02, 0.2, n), np.exp(rng.uniform(-1, 1, n) * np.log(3))
        height = np.minimum(np.round(np.sqrt(area * r.height * r.width * aspect)), r.height)
        width = np.minimum(np.round(np.sqrt(area * r.height * r.width / aspect)), r.width)
        top = np.floor(rng.random(n) * (r.height - height + 1))
        left = np.floor(rng.random(n) * (r.width - width + 1))
        chosen = rng.random(n) < r.erasing
        box = np.stack([top, left, top + height, left + width], 1).astype(np.int64) * chosen[:, None]
        return Draw(rows, mirror, shift, box)

    def _rows(self, position: int, count: int) -> np.ndarray:
        epoch, place = divmod(position, self.images)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.recipe.seed, 0, epoch]).permutation(self.images)
        rows = self._order[place : place + count]
        if len(rows) == count:
            return rows
        return np.concatenate([rows, self._rows(position + len(rows), count - len(rows))])


class Batches:
    """Network inputs from the decoded array: gather, mirror, shift, blank and normalise on the device.

    `images`: uint8 (N, height, width, 3). `resident` says whether it lies on the device: always on the CPU, and on a
    GPU where it fills at most half of the free memory."""

    def __init__(self, images: np.ndarray, device: torch.device):
        self.images = torch.from_numpy(images)
        self.device = device
        self.resident = device.type in ("cpu", "mps") or images.nbytes < torch.cuda.mem_get_info(device)[0] / 2
        if self.resident:
            self.images = self.images.to(device)

    def pixels(self, rows: Tensor) -> Tensor:
        """uint8 (n, height, width, 3) on the device; `rows` lies where the images do."""
        return self.images.index_select(0, rows).to(self.device, non_blocking=True)

    def __call__(self, draw: Draw) -> Tensor:
        """Normalised images of one batch, (n, 3, height, width) float32, channels last."""
        pixels = self.pixels(torch.from_numpy(draw.rows).to(self.images.device))
        mirror, shift, box = (torch.from_numpy(a).to(self.device) for a in (draw.mirror, draw.shift, draw.box))
        return self.augment(pixels, mirror, shift, box, bool(draw.shift.any()), bool(draw.box.any()))

    def augment(self, pixels: Tensor, mirror: Tensor, shift: Tensor, box: Tensor, shifts: bool, boxes: bool) -> Tensor:
        """Normalise uint8 (n, height, width, 3), mirror, then shift, then blank; (n, 3, height, width) out."""
        x = normalise(pixels)
        x = torch.where(mirror[:, None, None, None], x.flip(3), x)
        n, _, height, width = x.shape
        down, right = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        if shifts:
            rows, columns = down - shift[:, :1], right - shift[:, 1:]  # (n, height), (n, width)
            inside, across = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
            inside = inside[:, :, None] & across[:, None]
            rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
            image = torch.arange(n, device=x.device)[:, None, None]
            x = x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None]] * inside[..., None]
            x = x.permute(0, 3, 1, 2)
        if boxes:
            top, left, bottom, end = box.T[:, :, None]
            blank = ((down >= top) & (down < bottom))[:, :, None] & ((right >= left) & (right < end))[:, None]
            x = x.masked_fill(blank[:, None], 0.0)
        return x.contiguous(memory_format=torch.channels_last)
