"""What training for many users and items takes, on paper: prints the tables of docs/scale.md.

    python -m scripts.simulate_scale                                       # a billion users, 100 million items
    python -m scripts.simulate_scale log.users=5e7 log.items=2e6 model.dim=64 --tables memory,scaling-h100
    python -m scripts.simulate_scale --page docs/scale.md                  # writes them into the page

The inputs stand in scripts/scale/inputs.yaml; `section.name=value` changes one. Exit code 2 where there is no such
input.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from scripts.scale.tables import all_tables

INPUTS = Path(__file__).parent / "scale" / "inputs.yaml"
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.S)


def read_inputs(overrides: list[str], path: Path = INPUTS) -> dict[str, Any]:
    """The file's, with numbers as numbers (YAML takes 989e12 for text). Raises ValueError on an unknown input."""
    inputs = yaml.safe_load(path.read_text(encoding="utf-8"))
    for override in overrides:
        name, equals, value = override.partition("=")
        *sections, last = name.split(".")
        found = inputs
        for section in sections:
            found = found.get(section) if isinstance(found, dict) else None
        if not equals or not isinstance(found, dict) or last not in found or isinstance(found[last], dict):
            raise ValueError(f"{override}: no such input; they are in {path}")
        found[last] = value
    return _numbers(inputs, "")


def _numbers(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(each, f"{name}.{key}".lstrip(".")) for key, each in value.items()}
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{name}={value}: expected a number") from None
    if not number > 0:
        raise ValueError(f"{name}={value}: expected a number above 0")
    return int(number) if number.is_integer() and number < 1e12 else number


def with_tables(page: str, tables: dict[str, str]) -> str:
    """The page with the tables between its marks. Raises KeyError where it marks one that is not there."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n\n{found[4]}", page)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="section.name=value")
    parser.add_argument("--tables", help="names, separated by commas; all without")
    parser.add_argument("--page", type=Path, help="a page whose marked tables are written anew")
    given = parser.parse_args(words)
    try:
        tables = all_tables(read_inputs(given.overrides))
        wanted = given.tables.split(",") if given.tables else list(tables)
        if unknown := [name for name in wanted if name not in tables]:
            raise ValueError(f"--tables: no table {', '.join(unknown)}; there are {', '.join(tables)}")
    except ValueError as error:
        print(f"simulate_scale: {error}", file=sys.stderr)
        return 2
    if given.page is not None:
        given.page.write_text(with_tables(given.page.read_text(encoding="utf-8"), tables), encoding="utf-8")
        return 0
    print("\n\n".join(f"{name}\n\n{tables[name]}" for name in wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
