"""Which pairs float32 has to finish, told from a product of factors cut to TF32's 11 significant bits, x' and y':
|found - <x, y>| <= |x - x'| |y| + |x'| |y - y'| + g |x'| |y'|, as it multiplies these exactly, and sums of d terms cut
off at u = 2^-23 of the largest, as tensor cores add in blocks, lose less than g = 2 (d + 16) u (twice the bound of
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., Section 3.1, for sums in any order)."""

import math

import torch

from reid_core.distance import ROWS_AT_ONCE, matmul_precision

UNIT = 2.0**-23
CUT = 13  # bits of a float32 that TF32 lacks
CROWDED = 4  # pairs a neighbour that are finished one by one; beyond, float32 takes the whole row


def computes_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


class Filter:
    """Squared distances as a_i - 2 (<left_i, right_j> + bias_j); rows are compared with themselves alone, so without a.
    Means are off the factors, which shortens them and the bound. What lies below a row's k-th by more than its `slack`
    is not among the k nearest in float32. Columns j, j + groups, ... form a group: images of one person, which stand
    together, fall into several. The last columns repeat their groups' last, so that all are of one size."""

    def __init__(self, cloud, k: int):
        n, d = cloud.right.shape
        self.cloud, self.k, self.groups = cloud, k, 32 * (math.isqrt(k * n) // 32 + 1)
        self.pays = computes_tf32(cloud.norms.device) and 2 * self.groups <= n
        if not self.pays:
            return
        row_centre, centre = cloud.left.mean(0), cloud.right.mean(0)
        copies = slice(n - self.groups, -(-n // self.groups) * self.groups - self.groups)
        self.right, length, error = right = _cut(cloud.right, centre, copies.stop + self.groups)
        self.right[n:] = self.right[copies]
        self.left, row_length, row_error = right if cloud.left is cloud.right else _cut(cloud.left, row_centre, n)
        bias = torch.cat([block.double() @ row_centre.double() for block in cloud.right.split(ROWS_AT_ONCE)])
        bias = (bias - cloud.norms.double() / 2).float()
        self.bias = torch.cat([bias, bias[copies]])
        lost, reach = 2 * (d + 16) * UNIT, (length + error).max()
        off = row_error * reach + row_length * error.max() + lost * row_length * reach + 2 * UNIT * bias.abs().max()
        # float32 itself is off by d u |l| |r|, and by u (|l| + |r|)^2 in adding lengths up
        both = row_length + row_error + row_centre.norm() + reach + centre.norm()
        self.slack = (1 + lost) * (2 * off + (d / 4 + 2) * UNIT * both**2)

    def search(self, rows: slice) -> tuple:
        """Neighbours of some rows: (b, k) indices, distances, (b,) largest ones, and which rows were too crowded."""
        row, column, crowded = self.candidates(rows)
        place = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        distance = self.slack.new_full((len(crowded), CROWDED * (self.k + 1)), torch.inf)
        index = torch.zeros_like(distance, dtype=torch.int32)
        index[row, place] = column.int()
        distance[row, place] = self.cloud.pair_distance(row, column, rows)
        farthest = distance.where(distance < torch.inf, -torch.inf).amax(1)
        distance, order = distance.sort(dim=1, stable=True)
        return index.gather(1, order[:, : self.k]), distance[:, : self.k], farthest, crowded

    def candidates(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs that may be among the k nearest or the farthest of a row, (m,) and (m,) ascending, and which rows have
        too many, (b,) bool: of these none is given. Rows count from the first of `rows`."""
        with matmul_precision("tf32"):
            product = torch.addmm(self.bias, self.left[rows], self.right.T)
        cells, slack, most = product.view(len(product), -1, self.groups), self.slack[rows, None], CROWDED * (self.k + 1)
        low, high = torch.aminmax(cells, dim=1)
        near, far = high.topk(self.k).values[:, -1:] - slack, low.amin(1, keepdim=True) + slack
        asked = (high >= near) | (low <= far)  # k groups hold something no farther
        crowded = asked.sum(1) > most
        row, group = (asked & ~crowded[:, None]).nonzero(as_tuple=True)
        found = cells[row, :, group]
        which, place = ((found >= near[row]) | (found <= far[row])).nonzero(as_tuple=True)
        row, column, n = row[which], place * self.groups + group[which], len(self.slack)
        crowded |= torch.bincount(row, minlength=len(crowded)) > most
        pair = (row * n + column)[(column < n) & ~crowded[row]].sort().values
        return pair // n, pair % n, crowded


def _cut(features: torch.Tensor, centre: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows less the centre rounded to TF32, in the first of `width` rows, and lengths of them and of what was lost."""
    near, lengths = features.new_empty((width, features.shape[1])), features.new_empty((2, len(features)))
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(features)))
        block, part = features[rows] - centre, near[rows]
        bits = torch.add(block.view(torch.int32), 1 << (CUT - 1), out=part.view(torch.int32))
        bits.bitwise_and_(-(1 << CUT))
        lengths[:, rows] = torch.stack([part.norm(dim=1), (block - part).norm(dim=1)])
    return near, lengths[0], lengths[1] + UNIT * lengths[0]
