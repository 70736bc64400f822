"""What each job of a sweep asks a cluster for: its processes, and a GPU for each where it may run on one.

SLURM and Ray start a job where that many are free. Jobs of one sweep ask for the same, as many as the largest needs: an
array has one description, and Ray's launcher one for all of its tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqrec_cli.commands.sweep_shares import visible_gpus
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.machine import cores

AUTO = "auto"
CORES_A_PROCESS = {"submitit_slurm": 4, "ray": 1}
GIVEN_OTHERWISE = ("gres", "gpus_per_task")  # settings of SLURM that ask for GPUs, too
ON_A_GPU = (AUTO, "cuda", None)  # None: as the run was trained


@dataclass(frozen=True)
class Needs:
    """Of one job."""

    processes: int
    gpus: int  # as many, where `hardware.device` finds them
    surely: bool = False  # it cannot do without


NO_GPU = Needs(1, 0)


def needs_of(device: str | None, processes: int | str | None) -> Needs:
    """Of a job with these settings of `hardware`; `processes` as in the record, or None."""
    count = processes if isinstance(processes, int) else 1
    return Needs(count, count if device in ON_A_GPU else 0, device == "cuda")


def needs_on_a_cluster(device: str | None, processes: int | str | None) -> Needs:
    """The same, where the job is alone with what it asks for.

    Raises SeqrecError on settings that count what is on this machine.
    """
    if processes == AUTO:
        raise SeqrecError(
            "hardware.processes=auto: a job on a cluster gets the GPUs that it asks for; give their number, "
            "hardware.processes=4"
        )
    if device is not None and device.startswith("cuda:"):
        raise SeqrecError(f"hardware.device={device}: a job on a cluster sees its own GPUs alone, from 0; give cuda")
    return needs_of(device, processes)


def needs_of_jobs(verb: str, jobs: Iterable[Sequence[str]], config_dir: str | None) -> set[Needs]:
    """What the jobs of these overrides need. Jobs that differ in settings alone are looked at once."""
    from omegaconf import OmegaConf

    found = set()
    for overrides in dict.fromkeys(tuple(filter(_decides, job)) for job in jobs):
        try:
            cfg = compose(verb, list(overrides), config_dir)
        except SeqrecError:  # said by the job itself, when it is run
            found.add(needs_on_a_cluster(AUTO, None))
            continue
        if "hardware" not in cfg:
            found.add(NO_GPU)
            continue
        device, processes = (OmegaConf.select(cfg.hardware, name) for name in ("device", "processes"))
        found.add(needs_on_a_cluster(device, processes))
    return found


def _decides(override: str) -> bool:
    """Whether an override may change what stands under `hardware`: it does itself, or it chooses an option."""
    key = override.lstrip("+~").partition("=")[0]
    return key.partition(".")[0] == "hardware" or "." not in key


def asked_of_slurm(settings: Mapping[str, Any], needs: set[Needs]) -> dict[str, Any]:
    """The launcher's settings that stand at `auto`, as numbers. Raises SeqrecError where a given one is too small."""
    gpus, processes = max(each.gpus for each in needs), max(each.processes for each in needs)
    found: dict[str, Any] = {}
    if settings["gpus_per_node"] == AUTO:
        otherwise = any(settings[name] for name in GIVEN_OTHERWISE)
        found["gpus_per_node"] = None if otherwise or not gpus else gpus
    elif (settings["gpus_per_node"] or 0) < gpus and processes > 1:
        raise _too_few("hydra.launcher.gpus_per_node", settings["gpus_per_node"], gpus)
    if settings["cpus_per_task"] == AUTO:
        found["cpus_per_task"] = CORES_A_PROCESS["submitit_slurm"] * processes
    return found


def asked_of_ray(settings: Mapping[str, Any], needs: set[Needs]) -> dict[str, Any]:
    """The same of Ray's tasks (`hydra.launcher.ray.remote`).

    A task waits for ever where no machine has what it asks for. So where there are no GPUs, a job asks for none, unless
    it needs one on a cluster that may yet grow; and where Ray is started here, for no more cores than this machine has.
    """
    gpus, processes = max(each.gpus for each in needs), max(each.processes for each in needs)
    remote, start = settings["ray"]["remote"], settings["ray"]["init"]
    there, here = most_gpus(start), start["address"] is None
    found: dict[str, Any] = {}
    if remote["num_gpus"] == AUTO:
        if there and gpus > there:
            raise SeqrecError(
                f"hardware.processes={processes}: each takes a GPU, and no machine here has more than {there}; lower it"
            )
        surely = max((each.gpus for each in needs if each.surely), default=0)
        found["num_gpus"] = gpus if there else 0 if here else surely
    elif (remote["num_gpus"] or 0) < gpus and processes > 1:
        raise _too_few("hydra.launcher.ray.remote.num_gpus", remote["num_gpus"], gpus)
    if remote["num_cpus"] == AUTO:
        wanted = CORES_A_PROCESS["ray"] * processes
        found["num_cpus"] = min(wanted, cores()) if here else wanted
    return found


def most_gpus(start: Mapping[str, Any]) -> int:
    """The most GPUs that one machine has, of the cluster that `ray.init` is to join, or here where it starts Ray."""
    if start["address"] is None:
        return visible_gpus()
    import ray

    try:
        if not ray.is_initialized():  # the launcher then uses this connection; its own asks for an object store's size,
            ray.init(**start)  # which a cluster that is there refuses
        return int(max((node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SeqrecError(f"hydra.launcher.ray.init.address={start['address']}: {one_line(error)}") from error


def _too_few(setting: str, given: int | None, gpus: int) -> SeqrecError:
    return SeqrecError(f"hardware.processes={gpus} takes {gpus} GPUs a job, and {setting}={given}; leave that out")
