# What a contributor types. Every target is one or two commands: read them here and run them without make just as well.
.PHONY: install test exhaustive lint format types docs bench golden

install:  ## into the environment that is active
	pip install -c constraints.txt -e ".[dev,docs]"

test:
	pytest -n auto --maxprocesses 4

exhaustive:  ## the cases that `make test` leaves out
	pytest -n auto --maxprocesses 4 -m exhaustive

lint:
	ruff check .
	ruff format --check .

format:
	ruff check --fix .
	ruff format .

types:
	python -m mypy

docs:
	mkdocs build --strict

bench:  ## this machine's speed; more in docs/performance.md
	python -m scripts.bench dataset=synthetic --parts train,evaluate

golden:  ## records all golden losses anew: CONTRIBUTING.md says when
	python -m scripts.record_golden
