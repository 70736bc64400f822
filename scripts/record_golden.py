"""Record the golden losses of tests/golden anew, for every model of conf/model or those named.

    python -m scripts.record_golden [NAME ...]

A refactor must leave them as they are; run this only when a model is meant to compute something else, and say so
in the commit.
"""

import json
import sys

from tests.models import toy


def main(names: list[str]) -> None:
    toy.GOLDEN.mkdir(exist_ok=True)
    for name in names or toy.model_names():
        path = toy.GOLDEN / f"{name}.json"
        path.write_text(json.dumps({"losses": toy.golden_losses(name)}, indent=2) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
