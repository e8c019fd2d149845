"""How fast the page's modules play, in Node: the same engine of JavaScript as in Chromium."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

from tinyamp.book import ROOT
from tinyamp.files import InputError
from tinyamp.web_stages import read_manifest

SCRIPTS = ROOT / "book" / "_static" / "amp"
PASSES = 3  # over all modules; the fastest counts, as what else the machine does only slows down
MEASURE = """
import { readFileSync } from "node:fs";
const [script, passes, ...files] = JSON.parse(readFileSync(0, "utf8"));
const { measureSpeed } = await import(script);
const modules = files.map((file) => new WebAssembly.Module(readFileSync(file)));
const best = modules.map(() => 0);
for (let pass = 0; pass < passes; pass++)
  modules.forEach((module, k) => { best[k] = Math.max(best[k], measureSpeed(module)); });
console.log(JSON.stringify(best));
"""


def find_node() -> str:
    """Node: the system's, else that inside the playwright package. `InputError` if there is none.

    They may have different versions of the engine, and so differ in speed.
    """
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("playwright")
    inside = Path(spec.origin).parent / "driver" / "node" if spec and spec.origin else None
    if inside and inside.is_file():
        return str(inside)
    raise InputError("Node was not found; install it from nodejs.org, or `pip install playwright`.")


def measure(folder: str | Path, passes: int = PASSES) -> list[dict[str, object]]:
    """The speed of every module in a folder of assets: `speed` is times real time, on one thread.

    Returns what the manifest says of each stage, with `device` and `speed`. Raises `InputError`
    without Node, without the book's scripts, and for assets without modules.
    """
    folder = Path(folder).resolve()
    manifest = read_manifest(folder)
    if not manifest["compiled"]:
        raise InputError(f"The assets in {folder} have no modules. {manifest['reason']}")
    script = SCRIPTS / "amp.js"
    if not script.is_file():
        raise InputError(f"There is no {script}: this command works in a checkout of the book.")
    rows = [
        {"device": device["id"], **stage}
        for device in manifest["devices"]
        for stage in device["stages"]
    ]
    given = [script.as_uri(), passes, *(str(folder / row["wasm"]) for row in rows)]
    command = [find_node(), "--input-type=module", "--eval", MEASURE]
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line] or ["no reason given"]
        raise InputError(f"Node could not play the modules ({said[0].strip()[:200]}).")
    return [
        {**row, "speed": speed} for row, speed in zip(rows, json.loads(done.stdout), strict=True)
    ]
