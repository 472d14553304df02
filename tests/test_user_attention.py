"""Every listing of docs/add-an-attention.md: against the contract, in a grid, and from an installed wheel."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import attention_zoo
from lra.testing import CHECKS, THOROUGH, build_attention

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add-an-attention.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE + (ROOT / "docs" / "polaformer.md").read_text(), re.S)
LISTINGS = {re.findall(r'register\("(\w+)"', text)[0]: text for text in BLOCKS}


@pytest.fixture(params=LISTINGS)
def listing(request, tmp_path):
    path = tmp_path / f"{request.param}.py"
    path.write_text(LISTINGS[request.param])
    return path


def test_a_listing_keeps_the_contract(listing):
    for name, check in (CHECKS | THOROUGH).items():
        if name != "compiled_once":
            check(str(listing))


@pytest.mark.slow
def test_a_listing_is_compiled_once(listing):
    THOROUGH["compiled_once"](str(listing))


@pytest.mark.parametrize(("mine", "builtin"), [("my_relu", "relu"), ("my_pola", "pola")])
def test_a_listing_computes_what_the_built_in_does(mine, builtin, tmp_path):
    path = tmp_path / f"{mine}.py"
    path.write_text(LISTINGS[mine])
    ours, theirs = (build_attention(spec, dim=8, heads=2, length=20).double() for spec in (builtin, str(path)))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    keep = torch.arange(20) < torch.tensor([[20], [7]])
    assert_close(theirs(x, keep)[keep], ours(x, keep)[keep], rtol=0, atol=1e-6)


def make_wheel(folder: Path, source: str, entry: str) -> Path:
    """Makes a wheel, a zip with metadata, by hand, since building one would need a network."""
    info = "my_attention-1.0.dist-info"
    files = {
        "my_attention.py": source,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: my-attention\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[lra.attention]\n{entry} = my_attention:MyReLUAttention\n",
    }
    path = folder / "my_attention-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        record = []
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(text.encode())}")
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


def test_an_installed_wheel_advertises_its_attention(tmp_path, tiny):
    wheel = make_wheel(tmp_path, LISTINGS["my_relu"], "my_relu")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}

    def lra(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run_lra.py"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)

    ran = lra("--attn", "my_relu", "relu", "--task", "listops", "--protocol", tiny, "--out", str(tmp_path / "runs"))
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")]
    assert {record["row"] for record in records} == {"my_relu", "relu"}
    (mine,) = (record["attention"] for record in records if record["row"] == "my_relu")
    assert not mine["builtin"]
    assert mine["source"] == LISTINGS["my_relu"]
    near = lra("--attn", "my_rel", "--task", "listops")
    assert near.returncode == 2
    assert "did you mean 'my_relu'" in near.stderr


def test_an_advertised_name_passes_check(tmp_path, monkeypatch):
    """`check` builds the class of the entry point by its name, as after an installation."""
    site = tmp_path / "site"
    with zipfile.ZipFile(make_wheel(tmp_path, LISTINGS["my_relu"].replace("my_relu", "other"), "other")) as wheel:
        wheel.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    entry, _ = attention_zoo.find("other")
    assert not entry.builtin
    for check in CHECKS.values():
        check("other")
