"""What stands in launch/: the SLURM script does what it says, the manifest fits itself and us."""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "launch" / "train.sbatch"
FLAGS = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "train.py").read_text()))
# Stands in for srun: prints how it was called and what the tasks would find.
SRUN = '#!/bin/sh\necho "$@"\necho "devices $JAX_LOCAL_DEVICE_IDS"\nexit 3\n'


@pytest.fixture
def submit(tmp_path):
    """Run the script as sbatch does, on a node with so many GPUs."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)

    def submit(*arguments, **variables):
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_CPUS_PER_TASK": "64",
            **variables,
        }
        return subprocess.run(
            ["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True
        )

    return submit


def test_the_script_starts_one_process_a_node_with_all_of_its_gpus(submit):
    result = submit("--config=configs/b200.py", "--workdir=a b", SLURM_GPUS_ON_NODE="4")
    called, devices = result.stdout.splitlines()
    assert called.endswith("python train.py --config=configs/b200.py --workdir=a b")
    assert devices == "devices 0,1,2,3"
    assert result.returncode == 3  # the processes' own
    options = SCRIPT.read_text()
    assert "#SBATCH --ntasks-per-node=1\n" in options
    assert "#SBATCH --signal=TERM@" in options


def test_the_script_refuses_a_node_without_gpus(submit):
    result = submit("--config=configs/b200.py")
    assert result.returncode != 0
    assert "expected GPUs: sbatch --gpus-per-node=N" in result.stderr


def test_the_manifest_agrees_with_itself_and_with_the_program():
    manifest = yaml.safe_load((ROOT / "launch" / "jobset.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (hosts,) = manifest["spec"]["replicatedJobs"]
    assert manifest["spec"]["coordinator"]["replicatedJob"] == hosts["name"]
    job = hosts["template"]["spec"]
    assert job["completionMode"] == "Indexed"
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    given = dict(re.findall(r"--([\w.]+)=(\S+)", container["args"][0]))
    assert int(given["num_processes"]) == job["completions"] == job["parallelism"]
    (port,) = container["ports"]
    assert given["coordinator"] == f'"$COORDINATOR:{port["containerPort"]}"'
    assert {name for name in given if not name.startswith("config")} <= FLAGS
    assert (ROOT / given["config"]).exists()
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
