# The study as a workflow: one rule for each job of `tinyamp.study`, one file for each result.
# `tinyamp study run` starts it as it should be started; `--config` names preset, results and runs.
import sys
from shlex import quote

from tinyamp.study import jobs_of, study_settings

preset = config.get("preset", "laptop")
results = config.get("results", f"data/results/{preset}")
runs = config.get("runs", f"runs/study/{preset}")
places = f"--preset {preset} --results {quote(results)} --runs {quote(runs)}"
jobs = jobs_of(study_settings(preset))


rule all:
    input:
        [f"{results}/{job.file}" for job in jobs],


for order, job in enumerate(jobs):

    rule:
        name:
            job.name.replace("/", "_").replace("-", "_")
        input:
            # Ancient: a clone gives all files new times, and a finished job is not run again.
            [ancient(f"{results}/{need}.json") for need in job.needs],
        output:
            f"{results}/{job.file}",
        priority: len(jobs) - order
        threads: 1
        params:
            # Not in `shell`, which is read only when all rules have been made.
            command=f"{quote(sys.executable)} -m tinyamp study job {job.name} {places}",
        resources:
            mem_mb=2000,
            runtime=24 * 60,  # minutes, on a cluster; a job that is cut off goes on when run again
        shell:
            "{params.command}"
