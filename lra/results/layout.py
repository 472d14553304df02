"""What an output folder holds: the records, and in `work/NAME` the files of each run, under the name of its record.

OUT/NAME.json                        the record
OUT/work/NAME/run.json               what the run is, until it has a final record
              lock                   which process is executing it
              resume.pt              its newest checkpoint; resume-before.pt: the one before
              doubtful.pt            a checkpoint that may be of damaged data
              metrics.jsonl          its log
              error.txt              why it failed; error-1.txt: the same from process 1 of a group
              best.safetensors       its weights at the best step; last.safetensors: at the last
OUT/work/pretrained-.../             a pretraining that several runs share: encoder.safetensors and pretraining.json
"""

from pathlib import Path

WORK = "work"
ABOUT = "run.json"
LOCK = "lock"
RESUME, RESUME_BEFORE, DOUBTFUL = "resume.pt", "resume-before.pt", "doubtful.pt"
METRICS = "metrics.jsonl"
ERROR = "error.txt"
BEST, LAST = "best", "last"  # names of weights
ENCODER = "encoder"
PRETRAINING = "pretraining.json"


def work_folder(out: Path, name: str) -> Path:
    """Where the run of this name writes, below the output folder."""
    return out / WORK / name


def weights_file(name: str) -> str:
    """The file of the weights of this name."""
    return f"{name}.safetensors"
