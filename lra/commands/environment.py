"""The environment variables that the suite reads, and the optional extras of its installation: for docs/settings.md."""

from __future__ import annotations

from collections.abc import Iterable

NONE = "\N{EN DASH}"  # no default
OURS = {  # variable -> default, meaning
    "LRA_DATA": (NONE, "the folder with the files of the data, where `--data-dir` names none; [data.md](data.md)"),
    "LRA_CACHE": ("`~/.cache/lra`", "the folder for prepared data and compiled code"),
    "LRA_VERIFY_DAYS": ("7", "days after which a run verifies prepared data against its hashes again; 0: always"),
    "LRA_ACCEPT_MIRROR": (
        NONE,
        "`1`: Retrieval may download a public mirror of LRA's pairs, as with `--accept-mirror`",
    ),
    "LRA_STALE": (
        "600",
        "seconds without a heartbeat after which a run that another machine has claimed counts as abandoned, where the "
        "file system has no locks; [clusters.md](clusters.md)",
    ),
    "LRA_TRUST_RECORDS": (
        NONE,
        "`1`: import the code that a record holds, even if it never ran on this machine; [SECURITY.md](../SECURITY.md)",
    ),
    "LRA_FUZZ": (
        "1",
        "for the tests in `tests/faults` only: a factor on the number of examples that they try",
    ),
}
OTHERS = {
    "OMP_NUM_THREADS": ("1", "threads of each process on a CPU; [commands.md](commands.md#cores)"),
    "GOMP_SPINCOUNT": ("`5000`, set", "how long the threads of OpenMP spin while they wait"),
    "TORCHINDUCTOR_CACHE_DIR": ("`LRA_CACHE/inductor`", "the folder for compiled models"),
    "NUMBA_CACHE_DIR": ("`LRA_CACHE/numba-HASH`", "the folder for compiled generators of data"),
    "CUBLAS_WORKSPACE_CONFIG": ("`:4096:8`, set", "what bit-equal runs on CUDA need (`train.deterministic`)"),
    "HF_ENDPOINT": ("`https://huggingface.co`", "the hub from which Text, Image and the mirror of Retrieval come"),
    "HF_HUB_CACHE": ("`HF_HOME/hub`", "the folder in which the hub's client keeps downloads"),
    "HF_HOME": ("`XDG_CACHE_HOME/huggingface`", "the parent folder of `HF_HUB_CACHE`"),
    "XDG_CACHE_HOME": ("`~/.cache`", "the parent folder of `HF_HOME`"),
    "HF_HUB_OFFLINE": (NONE, "`1`: nothing is downloaded from the hub"),
    "HF_DATASETS_OFFLINE": (NONE, "the same as `HF_HUB_OFFLINE`"),
    "WANDB_PROJECT": ("`lra`", "the project of `--track wandb`"),
    "RAY_ADDRESS": (NONE, "the cluster that `--address auto` means"),
    "RAY_USAGE_STATS_ENABLED": ("`0`, set", "whether Ray reports its use to its makers"),
    "GLOO_SOCKET_IFNAME": (
        "`lo`, on macOS `lo0`; set",
        "the network interface that connects the processes of a run on a CPU",
    ),
    "TORCHELASTIC_RUN_ID": ("torchrun's", "whether torchrun has started the command"),
    "RANK": ("torchrun's", "the number of this process"),
    "WORLD_SIZE": ("torchrun's", "how many processes share the run"),
    "LOCAL_RANK": ("torchrun's", "the number of this process on its machine, and of its GPU"),
    "LOCAL_WORLD_SIZE": ("torchrun's", "how many processes of the run are on this machine"),
    "PYTHONPATH": (NONE, "is passed on to the processes that `bench` and `gpu` start"),
    "MPLBACKEND": (
        NONE,
        "is left as it is for your own figures; the suite writes its figures to files and needs no backend",
    ),
}
EXTRAS = {  # what pip takes in brackets -> the package, what for
    "ladder": ("scikit-learn", "the linear readers that `data ladder` trains on Text and Image"),
    "tensorboard": ("tensorboard", "`--track tensorboard`"),
    "wandb": ("wandb", "`--track wandb`"),
    "ray": ("ray", "`--engine ray`, on every node; 240 MB; [clusters.md](clusters.md)"),
    "dev": ("pytest, ruff, basedpyright, ...", "tests, format, lint and types: what `make` installs; `ladder` too"),
}


def section() -> str:
    """Three tables in Markdown, with their headings."""
    return f"""\
## Environment variables

The suite's own ([clusters.md](clusters.md) says which of them reach the nodes of a Ray cluster):

{_table("variable | default | meaning", OURS)}
Variables of other software; *set*: the suite sets it unless you do.

{_table("variable | default | meaning", OTHERS)}
## Extras

`pip install -e '.[ladder]'` installs what not everybody needs.

{_table("extra | installs | for", EXTRAS)}"""


def _table(heads: str, rows: dict[str, tuple[str, str]]) -> str:
    lines: Iterable[str] = (f"| `{name}` | {' | '.join(words)} |" for name, words in rows.items())
    return "\n".join([f"| {heads} |", "|---|---|---|", *lines]) + "\n"
