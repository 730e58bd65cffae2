"""A real Slurm on the loopback interface: munged, slurmctld and one slurmd a node, all below one folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CONFIG = """
ClusterName=infergate
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
ReturnToService=2
SlurmdTimeout=10
MessageTimeout=5
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 OverSubscribe=NO
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
NODES = {
    "small": "CPUs=4 RealMemory=1000 Feature=genoa",
    "big": "CPUs=4 RealMemory=8000 Feature=genoa,large",
    "gpu": "CPUs=4 RealMemory=8000 Gres=gpu:l4:1 Feature=milan",
}


def missing_slurm():
    """Why no Slurm can be started here; empty if it can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "the daemons of Slurm are started as root"


def _program(name):
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class LocalSlurm:
    """A cluster of three nodes. Clients find it by `SLURM_CONF`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.host = socket.gethostname()
        self.config = self.folder / "slurm.conf"
        self.processes = {}

    def start(self):
        ports = _free_ports(1 + len(NODES))
        lines = [
            f"NodeName={name} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} {terms}"
            for (name, terms), port in zip(NODES.items(), ports[1:], strict=True)
        ]
        (self.folder / "state").mkdir()
        for name in NODES:
            (self.folder / f"spool-{name}").mkdir()
        self.config.write_text(
            CONFIG.format(host=self.host, ports=ports, folder=self.folder, nodes="\n".join(lines))
        )
        (self.folder / "gres.conf").write_text("NodeName=gpu Name=gpu Type=l4 File=/dev/null\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        munge = self.folder
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/munge.socket",
            f"--pid-file={munge}/munged.pid", f"--log-file={munge}/munged.log", f"--seed-file={munge}/munged.seed",
        )  # fmt: skip
        self._wait((self.folder / "munge.socket").exists, "munged did not start")
        self._daemon("slurmctld", "-D", "-c", "-f", str(self.config))
        for name in NODES:
            self.start_node(name)
        self._wait(lambda: self.idle() == len(NODES), "the nodes did not register")
        return self

    def start_node(self, name):
        self._daemon("slurmd", "-D", "-N", name, "-f", str(self.config), key=name)

    def stop_node(self, name):
        """Let a node answer no more, with its jobs."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self):
        with suppress(OSError, subprocess.SubprocessError):
            self.client("scancel", "--user=root", "--signal=KILL")
            self.client("scancel", "--user=root")
        for process in reversed(list(self.processes.values())):
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
        # Steps of jobs are processes of their own.
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError, ValueError):
                if entry.read_bytes().startswith(b"slurmstepd") and self._ours(int(entry.parent.name)):
                    os.kill(int(entry.parent.name), signal.SIGKILL)

    def _ours(self, process):
        return str(self.config).encode() in Path("/proc", str(process), "environ").read_bytes()

    @property
    def environment(self):
        return {**os.environ, "SLURM_CONF": str(self.config)}

    def client(self, *command):
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout

    def idle(self):
        return self.client("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split().count("idle")

    def queue(self):
        """Jobs that wait or run."""
        return self.client("squeue", "-h", "-o", "%i %T %N").splitlines()

    def _daemon(self, name, *arguments, key=None):
        with (self.folder / f"{key or name}.out").open("ab") as log:
            self.processes[key or name] = subprocess.Popen(
                [_program(name), *arguments], env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def _wait(self, condition, problem, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = [path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log")]
                raise RuntimeError("\n".join([problem, *logs]))
            time.sleep(0.1)


def running(folder):
    """A context with a cluster below a folder."""
    cluster = LocalSlurm(folder)
    cluster.close = cluster.stop
    return closing(cluster)
