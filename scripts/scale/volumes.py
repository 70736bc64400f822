"""What a log takes on disk and in a process, what preparing, ranking and serving take. Nothing but arithmetic.

Symbols: U users, V items, N events, D width, n devices. `seqrec`'s own arrays are named as in its code.
"""

from dataclasses import dataclass

from scripts.scale.arithmetic import BACKWARD, FP32, INT32, INT64, MOMENTS, Log, Model, Setting

DAY = 86_400


@dataclass(frozen=True)
class Preprocess:
    events_a_core: float
    shuffled_bytes: float
    shuffles: int
    cores_a_node: int
    network: float
    disk: float


@dataclass(frozen=True)
class Serving:
    requests_a_user_and_day: float
    peak: float
    cores: int
    memory_bandwidth: float
    codes: int
    lists: int
    probed: int
    graph_links: int
    graph_visited: int
    read_seconds: float


def on_disk(log: Log, model: Model) -> dict[str, float]:
    """Bytes of the raw log, the packed log and a checkpoint of the item table and its moments."""
    return {
        "raw log, Parquet": log.events * log.raw_bytes_an_event,
        "packed log: items_N, int32": log.events * INT32,
        "packed log: times_N, int64": log.events * INT64,
        "packed log: offsets_U1, int64": (log.users + 1) * INT64,
        "users.parquet, items.parquet": (log.users + log.items) * (INT32 + INT64),
        "a checkpoint (table, two moments)": (log.items + 1) * model.dim * FP32 * (1 + MOMENTS),
    }


def in_process(log: Log) -> dict[str, float]:
    """Bytes of the arrays that each training process makes of the whole log, were it not told to hold a part: they are
    made for every user or item, and not mapped from a file."""
    U, V, N = log.users, log.items, log.events
    return {
        "a split's requests: rows_R, ends_R, positions_T, offsets_R1, val and test": 2 * 4 * U * INT64,
        "windows: rows_R, starts_R, lengths_R, and train_U": 4 * U * INT64,
        "order of an epoch: permutation, noisy lengths, sorted": 3 * U * INT64,
        "samplers: counts_V, ends_V": 2 * V * INT64,
        "rows of prefixes (click rankers, objective.window=prefixes): rows_R, ends_R, lengths_R": 3 * N * INT64,
    }


def preprocessing(log: Log, cost: Preprocess, nodes: int) -> dict[str, float]:
    """Hours of a cluster: processors, network and disks, which overlap, so that the slowest counts."""
    shuffled = log.events * cost.shuffled_bytes * cost.shuffles
    processors = log.events / (cost.events_a_core * cost.cores_a_node * nodes)
    network = shuffled * (nodes - 1) / nodes / (cost.network * nodes)
    disks = (log.events * log.raw_bytes_an_event + 2 * shuffled) / (cost.disk * nodes)
    return {
        "processors": processors / 3600,
        "network": network / 3600,
        "disks": disks / 3600,
        "hours": max(processors, network, disks) / 3600,
        "spilled a node": log.events * cost.shuffled_bytes / nodes,
    }


def ranking_seconds(setting: Setting, requests: float, n: int) -> dict[str, float]:
    """Of all items for so many requests, the table row-sharded: encoding, products, and passes over the scores (written
    in bf16, read twice for counting or for the best ones)."""
    model, device, rates, V = setting.model, setting.device, setting.rates, setting.log.items
    encode = requests / n * setting.length * model.layer_flops(setting.length) / (1 + BACKWARD)
    products = requests * 2 * V * model.dim / n
    passes = 3 * requests * V * model.activation_bytes / n
    return {
        "encoding": encode / (device.flops * rates.of_peak),
        "products": products / (device.flops * rates.of_peak),
        "scores": passes / (device.bandwidth * rates.of_bandwidth),
    }


def indexes(log: Log, model: Model, cost: Serving) -> dict[str, dict[str, float]]:
    """Bytes, and milliseconds of a core a query, of the kinds of `seqrec export format=embeddings index=`: each reads
    as fast as its share of the memory bandwidth, a graph by `read_seconds` a vector."""
    V, D = log.items, model.dim
    vector = D * FP32
    core = cost.memory_bandwidth / cost.cores
    probed = V / cost.lists * cost.probed
    return {
        "flat": {"bytes": V * vector, "ms": V * vector / core * 1e3},
        "hnsw": {
            "bytes": V * (vector + 2 * cost.graph_links * INT32),
            "ms": cost.graph_visited * (cost.read_seconds + vector / core) * 1e3,
        },
        "ivfpq": {
            "bytes": V * (cost.codes + INT64) + cost.lists * vector,
            "ms": (probed * cost.codes + cost.lists * vector) / core * 1e3,
        },
    }


def requests_a_second(log: Log, cost: Serving) -> float:
    """At the busiest moment."""
    return log.users * cost.requests_a_user_and_day / DAY * cost.peak


def machines(log: Log, model: Model, cost: Serving, *, kind: str, encode_flops: float) -> float:
    """That answer the busiest moment at half their cores, encoding a history included.

    `encode_flops`: a core's rate.
    """
    search = indexes(log, model, cost)[kind]["ms"] / 1e3
    length = min(log.events_a_user, model.length)
    encode = length * model.layer_flops(length) / (1 + BACKWARD) / encode_flops
    return requests_a_second(log, cost) * (search + encode) / (cost.cores / 2)
