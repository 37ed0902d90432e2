"""What a process is told of others, and how they meet; runs of two are in faults/."""

import socket
import threading

import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.hosts.lifeline import Lifeline
from kunlun_jax.hosts.processes import (
    Options,
    connected,
    first_in_turn,
    gathered,
    is_first,
    several,
    together,
)
from tests.processes import free_port, slurm_tasks

KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"}


class TestOptions:
    @pytest.mark.parametrize(
        ("environment", "cluster"),
        [
            ({}, None),
            (slurm_tasks(2)[1], "SLURM"),
            (slurm_tasks(1)[0], None),
            ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, None),  # sbatch's own script, no srun
            (OPEN_MPI, "Open MPI"),
            (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
            (KUBERNETES, "Kubernetes"),
            ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # a pod of its own
        ],
    )
    def test_a_cluster_is_told_by_the_environment(self, monkeypatch, environment, cluster):
        for name in [*slurm_tasks(1)[0], *OPEN_MPI, *KUBERNETES]:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert Options().cluster == cluster
        assert Options("host:1", 2, 0).cluster == "flags"

    @pytest.mark.parametrize(
        ("options", "missing"),
        [
            ({"coordinator": "host:1"}, "num_processes"),
            ({"num_processes": 2, "process_id": 0}, "coordinator"),
            ({"coordinator": "host:1", "num_processes": 2}, "process_id"),
        ],
    )
    def test_flags_come_together(self, options, missing):
        with pytest.raises(ConfigError, match=f"--{missing}: expected all of .* or none, got None"):
            assert Options(**options).cluster


def test_alone_nothing_happens():
    with connected(Options(), expected=()), together():
        assert first_in_turn(lambda: 3) == 3
        assert gathered({1: "one", 0: "two"}) == {1: "one", 0: "two"}
    assert is_first()
    assert not several()


class TestLifeline:
    def meet(self, numbers, count, port, timeout=20):
        """Connect, each in a thread of its own; return the lifelines or what was raised."""
        found = {}

        def connect(number):
            try:
                address = f"127.0.0.1:{port}"
                found[number] = Lifeline(address, number, count, timeout=timeout, silence=60)
            except OSError as error:
                found[number] = error

        threads = [threading.Thread(target=connect, args=[number]) for number in numbers]
        for thread in threads:
            thread.start()
        return found, threads

    def join(self, threads):
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads)

    def test_all_meet_past_strangers_and_the_port_is_free_again(self):
        port = free_port()
        found, threads = self.meet([0], 3, port)
        with self.connection(port) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            others, more = self.meet([1, 2], 3, port)
            self.join([*threads, *more])
        assert sorted(found | others) == [0, 1, 2]
        with socket.create_server(("", port)):  # where JAX's coordinator listens next
            for lifeline in (found | others).values():
                lifeline.leave(failed=False)

    def connection(self, port):
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                continue

    def test_says_who_does_not_come(self):
        found, threads = self.meet([0, 1], 4, free_port(), timeout=2)
        self.join(threads)
        assert str(found[0]) == "no sign of process 2, 3"
        assert str(found[1]).startswith("process 0 is not ready there: ")

    @pytest.mark.parametrize("address", ["host", "host:", ":12", "host:port"])
    def test_refuses_what_is_no_address(self, address):
        with pytest.raises(ValueError, match="expected host:port, got"):
            Lifeline(address, 0, 2, timeout=1, silence=1)
