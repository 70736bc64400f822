"""The energy of a run, where CodeCarbon has recorded it: its `emissions.csv` lies in the run's folder."""

import csv
from pathlib import Path

from seqrec_cli.config.errors import SeqrecError

RECORD = "emissions.csv"  # what CodeCarbon writes, a row a measurement


def energy(folder: Path) -> list[str]:
    """Lines for a card; none where nothing was recorded."""
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        energy_kwh, emissions_kg, seconds = (
            sum(float(row[name]) for row in rows) for name in ("energy_consumed", "emissions", "duration")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SeqrecError(f"{path} is not what CodeCarbon writes ({error!r}); delete it, or put it right") from error
    if not rows:
        return []
    places = sorted({row["country_name"] for row in rows if row.get("country_name")})
    where = f", by the electricity of {', '.join(places)}" if places else ""
    return [
        f"- {1000 * energy_kwh:,.3g} Wh in {seconds:,.0f} s, {1000 * emissions_kg:,.3g} g of CO2 equivalents{where}: "
        "CodeCarbon's estimate."
    ]
