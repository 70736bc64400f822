"""What training costs on n devices: memory, operations, bytes moved and seconds of a step. Nothing but arithmetic.

Symbols: n devices, g of them in a node; V items, U users, D width, F inner width, L longest row, T events (and
targets) of a device's step, K negatives, P parameters outside the item table. Bytes, operations and seconds, all of one
device and one step unless a name says otherwise.

The shapes are those of `seqrec train model=sasrec model.norm=pre`; `tests/test_simulate_scale.py` holds them against
`seqrec plan` at sizes that run on a laptop.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from scripts.scale.popularity import distinct_rows

FP32, INT32, INT64 = 4, 4, 8
MOMENTS = 2  # AdamW's
BACKWARD = 2  # a product's backward pass makes two products of its size


@dataclass(frozen=True)
class Log:
    users: int
    items: int
    events_a_user: float
    zipf: float
    raw_bytes_an_event: float

    @property
    def events(self) -> float:
        return self.users * self.events_a_user


@dataclass(frozen=True)
class Model:
    dim: int
    blocks: int
    ffn: int
    length: int
    activation_bytes: int

    def block_parameters(self) -> int:
        """Of all blocks: four projections of D to D, two layers between D and F, with biases, and two norms."""
        D, F = self.dim, self.ffn
        return self.blocks * (4 * (D * D + D) + 2 * D * F + F + D + 4 * D)

    def dense_parameters(self) -> int:
        """P: blocks, position table and the last norm: what every device holds."""
        return self.block_parameters() + self.length * self.dim + 2 * self.dim

    def kept_bytes(self) -> float:
        """Activations of an event that the backward pass needs: a block keeps both norms' inputs and outputs, queries,
        keys, values and what attention gives (8 D) and the inner layer before and after its activation (2 F). Fused
        attention keeps no square (FlashAttention, arXiv 2205.14135)."""
        return self.blocks * (8 * self.dim + 2 * self.ffn) * self.activation_bytes

    def layer_flops(self, length: float) -> float:
        """An event's, forward and backward: two operations a multiply-add; attention over the whole square."""
        products = 4 * self.dim * self.dim + 2 * self.dim * self.ffn
        return (1 + BACKWARD) * self.blocks * (2 * products + 2 * 2 * length * self.dim)

    def loss_flops(self, scored: float) -> float:
        """A target's, whose softmax has `scored` columns: the scores, and their gradient by query and by item."""
        return (1 + BACKWARD) * 2 * scored * self.dim


@dataclass(frozen=True)
class Step:
    rows: float
    negatives: int
    vector_bytes: int


@dataclass(frozen=True)
class Device:
    flops: float
    memory: float
    bandwidth: float
    in_node: int
    link: float
    network: float


@dataclass(frozen=True)
class Rates:
    of_peak: float
    of_bandwidth: float
    of_rows: float
    of_network: float
    passes: float
    latency: float
    overhead: float
    left_free: float


@dataclass(frozen=True)
class Setting:
    """All that a step's cost follows from."""

    log: Log
    model: Model
    step: Step
    device: Device
    rates: Rates

    @classmethod
    def of(cls, inputs: dict[str, Any], device: str) -> Self:
        """From `inputs.yaml`'s sections. Raises KeyError and TypeError where one lacks or has more than its fields."""
        return cls(
            Log(**inputs["log"]),
            Model(**inputs["model"]),
            Step(**inputs["step"]),
            Device(**inputs["accelerators"][device]),
            Rates(**inputs["rates"]),
        )

    def wide(self, dim: int) -> Self:
        """Of another width, the inner one in proportion."""
        ffn = self.model.ffn * dim // self.model.dim
        return replace(self, model=replace(self.model, dim=dim, ffn=ffn))

    def of_batch(self, rows: float) -> Self:
        """With so many rows a device and step."""
        return replace(self, step=replace(self.step, rows=rows))

    @property
    def targets(self) -> float:
        """T: real events of a step; rows of like length share a batch, so padding is left out."""
        return self.step.rows * min(self.log.events_a_user, self.model.length)

    @property
    def length(self) -> float:
        """Events of a row, on average."""
        return min(self.log.events_a_user, self.model.length)


# Memory


def table_bytes(rows: float, dim: int) -> dict[str, float]:
    """A table in fp32, AdamW's two moments of it, and its dense gradient (row-sparse ones hold a batch's rows)."""
    table = rows * dim * FP32
    return {"table": table, "moments": MOMENTS * table, "dense gradient": table}


def memory(setting: Setting, n: int) -> dict[str, float]:
    """At a step's peak, tables row-sharded over n devices and gradients row-sparse."""
    model, looked_up = setting.model, distinct_of_step(setting)
    sharded = table_bytes((setting.log.items + 1) / n, model.dim)
    exchanged = 2 * looked_up * model.dim * setting.step.vector_bytes * (1 if n > 1 else 0)
    return {
        "table": sharded["table"],
        "moments": sharded["moments"],
        "dense part": (1 + 1 + MOMENTS) * model.dense_parameters() * FP32,  # itself, its gradient, its moments
        "activations": setting.targets * model.kept_bytes(),
        "rows of the step": looked_up * model.dim * FP32 * 2 + exchanged,  # vectors and gradients, and on their way
    }


def fewest_devices(setting: Setting) -> int:
    """The least power of two of devices that hold the step."""
    n = 1
    while sum(memory(setting, n).values()) > setting.device.memory * (1 - setting.rates.left_free):
        n *= 2
    return n


# Bytes on the wire, sent by one device (it receives as many)


def distinct_of_step(setting: Setting) -> float:
    """Rows of the table that one device's step looks up: its events, drawn by popularity, and its negatives, half of
    them from the batch (which it has) and half uniform."""
    uniform = setting.step.negatives / 2
    return distinct_rows(setting.log.items, setting.log.zipf, setting.targets) + uniform


def all_reduce_bytes(size: float, n: int) -> float:
    """A ring sends each part 2 (n - 1) times: reduce-scatter, then all-gather (Patarasuk & Yuan 2009)."""
    return 2 * (n - 1) / n * size


def lookup_bytes(setting: Setting, n: int) -> float:
    """All-to-all of a row-sharded table: row numbers out, vectors back, and their gradients the other way.

    A device sends the numbers and gradients of its own step, and the vectors of the others'; a share of 1 / n stays at
    home.
    """
    rows = distinct_of_step(setting)
    vectors = 2 * rows * setting.model.dim * setting.step.vector_bytes
    return (rows * INT64 + vectors) * (n - 1) / n


def full_softmax_bytes(setting: Setting, n: int) -> float:
    """Queries of all devices to all (bf16), a maximum and a sum for each target all-reduced, and the gradients of the
    queries, of which each device has a part for every target, reduce-scattered (fp32)."""
    T, D = setting.targets, setting.model.dim
    gathered = (n - 1) * T * D * setting.model.activation_bytes
    reduced = all_reduce_bytes(2 * n * T * FP32, n)
    return gathered + reduced + (n - 1) * T * D * FP32


def exchange_bytes(setting: Setting, n: int) -> dict[str, float]:
    """What a device sends a step, by the way the table is kept; the first alone is for the dense part."""
    V, D = setting.log.items + 1, setting.model.dim
    rows = distinct_of_step(setting)
    return {
        "dense part, all-reduce": all_reduce_bytes(setting.model.dense_parameters() * FP32, n),
        "whole table on each device, dense gradient, all-reduce": all_reduce_bytes(V * D * FP32, n),
        "whole table on each device, row-sparse gradient, all-gather": (n - 1) * rows * (D * FP32 + INT64),
        "row-sharded table, lookups and gradients, all-to-all": lookup_bytes(setting, n),
        "row-sharded table, softmax over all items": full_softmax_bytes(setting, n),
    }


# Seconds


def wire_seconds(setting: Setting, size: float, n: int, *, rounds: int) -> float:
    """Of `size` sent bytes, spread evenly over the other devices: the slower of the links within a node and the network
    beyond it, and a latency for each round of the collective."""
    device, rates = setting.device, setting.rates
    if n == 1:
        return 0.0
    beyond = max(n - device.in_node, 0) / (n - 1)
    slowest = max(size * beyond / device.network, size * (1 - beyond) / device.link)
    return slowest / rates.of_network + rounds * rates.latency


def ring_seconds(setting: Setting, size: float, n: int) -> float:
    """All-reduce; between nodes each device's network port carries 1 / g of it (hierarchical, as NCCL does)."""
    device, rates = setting.device, setting.rates
    if n == 1:
        return 0.0
    g = min(n, device.in_node)
    nodes = max(n // g, 1)
    within = all_reduce_bytes(size, g) / device.link
    between = all_reduce_bytes(size / g, nodes) / device.network
    steps = 2 * (max(g - 1, 0) + max(nodes - 1, 0).bit_length())  # a ring within, trees between
    return (within + between) / rates.of_network + steps * rates.latency


def parts(setting: Setting, n: int, *, full_softmax: bool = False) -> dict[str, float]:
    """Seconds of a step by what takes them.

    Nothing overlaps but the dense part's all-reduce with the backward pass, which is two thirds of the layers' time.
    """
    model, device, rates, T = setting.model, setting.device, setting.rates, setting.targets
    flops = T * model.layer_flops(setting.length)
    passes = T * model.kept_bytes() * rates.passes
    layers = max(flops / (device.flops * rates.of_peak), passes / (device.bandwidth * rates.of_bandwidth))
    scored = (
        setting.log.items if full_softmax else setting.step.negatives + 1
    )  # of n devices' targets, 1 / n of the items
    loss = T * model.loss_flops(scored) / (device.flops * rates.of_peak)
    rows = distinct_of_step(setting)
    moved = rows * model.dim * FP32 * (2 + 2 * (1 + MOMENTS))  # gathered, scattered; row and moments read and written
    table = moved / (device.bandwidth * rates.of_rows)
    exchange = wire_seconds(setting, lookup_bytes(setting, n), n, rounds=3)
    if full_softmax:
        exchange += wire_seconds(setting, full_softmax_bytes(setting, n), n, rounds=3)
    reduce = ring_seconds(setting, model.dense_parameters() * FP32, n)
    hidden = min(reduce, layers * BACKWARD / (1 + BACKWARD))
    return {
        "layers": layers,
        "loss": loss,
        "table": table,
        "exchange": exchange,
        "all-reduce": reduce - hidden,
        "overhead": rates.overhead,
    }


def seconds(setting: Setting, n: int, *, full_softmax: bool = False) -> float:
    """A whole step."""
    return sum(parts(setting, n, full_softmax=full_softmax).values())


def epoch_hours(setting: Setting, n: int, *, full_softmax: bool = False) -> float:
    """Every event a target once."""
    steps = setting.log.events / (setting.targets * n)
    return steps * seconds(setting, n, full_softmax=full_softmax) / 3600
