"""A small log in every form that a dataset of `conf/` reads, so that each of its settings has something to act on."""

import functools
import json
import zipfile
from pathlib import Path

import numpy as np

HOUR = 3600
CSV = "user,item,time,rating,kind,tags,plan,place,visit,maker"


def _events(users: int) -> list[tuple[int, int, int, int]]:
    """(user, item, second, visit) of users and 30 items: repeats, rows twice, equal times, visits hours apart."""
    rng, found = np.random.default_rng(7), []
    for user in range(1, users + 1):
        time, visit = 1_600_000_000 + user * 500, 0
        for _ in range(int(rng.integers(6, 13))):
            if rng.random() < 0.3:
                time, visit = time + int(rng.integers(2, 40)) * HOUR, visit + 1
            time += int(rng.integers(0, 4)) * 300  # now and then the same moment
            visit += rng.random() < 0.15
            found += [(user, int(rng.integers(1, 31)), time, 100 * user + visit)] * (1 + (rng.random() < 0.05))
    return found


@functools.cache
def csv(folder: Path, users: int = 16, header: bool = True) -> Path:
    """With everything that columns can hold; ids are numbers."""
    path = folder / f"log_{users}_{header}.csv"
    rows = [
        f"{user},{item},{time},{1 + (user * item) % 5},k{item % 3},t{item % 4}|t{item % 7},p{user % 3},"
        f"{'AB'[time // HOUR % 2]},{visit},{1 + item % 9}"
        for user, item, time, visit in _events(users)
    ]
    text = "\n".join([CSV, *rows][0 if header else 1 :]) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


@functools.cache
def odd(folder: Path) -> Path:
    """The same with a comma in a quoted field, and a row without a user."""
    path = folder / "odd.csv"
    header, first, *rest = csv(folder).read_text(encoding="utf-8").splitlines()
    fields = [dict(zip(header.split(","), row.split(","), strict=True)) for row in (first, rest[0])]
    fields[0]["place"], fields[1]["user"] = '"here, there"', "nan"
    path.write_text(
        "\n".join([header, *(",".join(row.values()) for row in fields), *rest[1:]]) + "\n", encoding="utf-8"
    )
    return path


def vectors(folder: Path) -> Path:
    """Two numbers an item, by ids of the logs and of those that are generated."""
    path = folder / "vectors.npz"
    ids = [f"{prefix}{item}" for prefix in ("", "i") for item in range(31)]
    np.savez(path, ids=np.array(ids), vectors=np.arange(2.0 * len(ids)).reshape(-1, 2))
    return path


@functools.cache
def split(folder: Path, users: int = 16) -> Path:
    """The same with a split: each user's last moment tests, the one before validates; and one that is drawn."""
    path = folder / f"split_{users}.csv"
    head, *rows = csv(folder, users).read_text(encoding="utf-8").splitlines()
    moments: dict[str, list[str]] = {}
    for user, _, time, *_ in (row.split(",") for row in rows):
        if time not in moments.setdefault(user, []):
            moments[user].append(time)
    lines = [f"{head},part,drawn"]
    for nth, row in enumerate(rows):
        user, _, time, *_ = row.split(",")
        part = {1: "valid", 0: "test"}.get(len(moments[user]) - 1 - moments[user].index(time), "train")
        lines.append(f"{row},{part},{('train', 'train', 'test', 'valid')[nth % 4]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@functools.cache
def items(folder: Path) -> Path:
    """What is said of items, by their ids and by others."""
    path = folder / "items.csv"
    rows = [f"{item},{31 - item},z{item % 5},t{item % 4}|t{item % 7}" for item in range(1, 31)]
    path.write_text("\n".join(["item,other,kind,tags", *rows]) + "\n", encoding="utf-8")
    return path


@functools.cache
def users(folder: Path) -> Path:
    """What is said of users, by their ids and by others."""
    path = folder / "users.csv"
    rows = [f"{user},{25 - user},q{user % 5},{'XY'[user % 2]}{user % 3}" for user in range(1, 25)]
    path.write_text("\n".join(["user,other,plan,town", *rows]) + "\n", encoding="utf-8")
    return path


@functools.cache
def sequences(folder: Path, users: int = 16) -> Path:
    path = folder / f"sequences_{users}.txt"
    path.write_text("".join(f"{user} {item}\n" for user, item, _, _ in _events(users)), encoding="utf-8")
    return path


@functools.cache
def movielens(folder: Path, name: str, users: int = 16) -> Path:
    path, events = folder / f"{name}_{users}.zip", _events(users)
    old = name == "ml-100k"
    between = "\t" if old else "::"
    ratings = "".join(f"{u}{between}{i}{between}{1 + (u * i) % 5}{between}{t}\n" for u, i, t, _ in events)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/{'u.data' if old else 'ratings.dat'}", ratings)
        if old:
            genres = {i: "|".join(str(int(genre == i % 19)) for genre in range(19)) for i in range(1, 31)}
            items = [f"{i}|Film {i} (19{70 + i})|01-Jan-1995||http://x|{genres[i]}\n" for i in range(1, 31)]
            file.writestr("ml-100k/u.item", "".join(items).encode("latin-1"))
            file.writestr("ml-100k/u.user", "".join(f"{u}|24|M|writer|85711\n" for u in range(1, users + 1)))
        else:
            file.writestr("ml-1m/movies.dat", "".join(f"{i}::Film {i} (19{70 + i})::Drama\n" for i in range(1, 31)))
            file.writestr("ml-1m/users.dat", "".join(f"{u}::F::1::10::48067\n" for u in range(1, users + 1)))
    return path


@functools.cache
def taobao(folder: Path, users: int = 16) -> Path:
    """Times within the published days but for one in ten."""
    path, first = folder / f"UserBehavior_{users}.csv", 1_511_539_200
    kinds = ("pv", "cart", "fav", "buy")
    rows = [
        f"{u},{i},{7 + i % 3},{kinds[n % 4]},"
        f"{first + (t - 1_600_000_000) // 20 - (n % 10 == 0) * 10**6 * (1 + n % 3)}\n"
        for n, (u, i, t, _) in enumerate(_events(users))
    ]
    path.write_text("".join(rows), encoding="utf-8")
    return path


@functools.cache
def trivago(folder: Path, users: int = 16) -> Path:
    """Four requests a user among other actions; one action in five is on the item of the action before it."""
    path = folder / f"train_{users}.csv"
    rows = [
        "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices"
    ]
    actions = ("interaction item image", "interaction item info", "search for item")
    last = 0
    for n, (user, item, time, visit) in enumerate(_events(users)):
        asks = n % 2 == 0
        item = last if n % 5 == 0 and last else item
        listed, place = [item % 30 + 1, (item + 6) % 30 + 1], n // 2 % 3
        listed.insert(place, item)
        shown = "|".join(map(str, listed)) if asks else ""
        action = "clickout item" if asks else actions[n % 3]
        where = f'{"FR" if user % 2 else "DE"},"Nice, France",{"mobile" if n % 3 else "tablet"}'
        rows.append(f"u{user},s{visit},{time},1,{action},{item},{where},,{shown},{shown}")
        last = item
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@functools.cache
def amazon(folder: Path, users: int = 16) -> Path:
    """Reviews and metadata of two categories in one folder, in a form that two editions read, each in its own way."""
    here = folder / f"amazon_{users}"
    here.mkdir()
    for category, turn in (("Toys", 0), ("Books", 1)):
        reviews = [
            {
                "reviewerID": f"u{u}",
                "asin": f"i{(i + turn) % 30}",
                "overall": float(1 + (u * i) % 5),
                "unixReviewTime": t,
            }
            for u, i, t, _ in _events(users)
        ]
        about = [
            {"asin": f"i{i}", "title": f"T{i}", "brand": f"b{i % 4}", "main_cat": f"m{i % 2}"}
            | {"category": ["A", f"c{i % 3}"], "categories": [["B", f"d{i % 5}"]]}
            for i in range(30)
        ]
        for name, rows in ((f"{category}_5.json", reviews), (f"meta_{category}.json", about)):
            (here / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return here


def of(folder: Path, dataset: str, users: int = 16) -> Path:
    """The file of a dataset of `conf/`; of one that reads none, the folder itself."""
    if dataset in ("ml-1m", "ml-100k"):
        return movielens(folder, dataset, users)
    makers = {"csv": csv, "sequences": sequences, "taobao": taobao, "trivago": trivago, "amazon": amazon}
    return makers[dataset](folder, users) if dataset in makers else folder
