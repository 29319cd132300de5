"""Ctrl-C: whatever a command is in, it ends soon, with exit code 130 and one line, and leaves nothing half-written.

The commands here are made up, so that their processes need not import JAX; `interrupts.py` interrupts real ones.
"""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import interrupt_commands
import psutil
import pytest
from cli_helpers import ROOT, Said, refused

from jaxcam import interrupts
from jaxcam.cli import atlas

SOON = 3.0
"""Seconds from the signal to the end of the process."""

COMMAND = """
import contextlib, ctypes, gc, hashlib, os, sys, threading, time, weakref
from pathlib import Path
from jaxcam.cli.main import cli, main

@cli.command()
def work():
    {body}
    print("done", flush=True)

def ready():
    print("ready", flush=True)

def compute():
    "Minutes of work in C, which gives other threads their turn but looks for no signal."
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

sys.argv = ["jaxcam", "work"]
main()
"""

BUSY = {
    "a computation in C": "ready(); compute()",
    "Python": """
        ready()
        while True:
            pass""",
    "a sleep": "ready(); time.sleep(100)",
    "a wait for a thread": """
        thread = threading.Thread(target=time.sleep, args=(100,), daemon=True)
        thread.start(); ready(); thread.join()""",
    "a callback of the garbage collection": """
        once = []
        def callback(phase, info):
            if not once:
                once.append(1); ready()
                end = time.monotonic() + 5
                while time.monotonic() < end: pass
        gc.callbacks.append(callback); gc.collect()""",
    "a callback of a weak reference": """
        class Thing: pass
        def callback(_):
            ready()
            end = time.monotonic() + 5
            while time.monotonic() < end: pass
        thing = Thing(); there = weakref.ref(thing, callback); del thing""",
    "a finalizer": """
        class Thing:
            def __del__(self):
                ready()
                end = time.monotonic() + 5
                while time.monotonic() < end: pass
        thing = Thing(); del thing""",
    "code that catches everything": """
        ready()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try: time.sleep(0.1)
            except BaseException: pass""",
    "code that makes another error of it": """
        ready()
        try: time.sleep(100)
        except BaseException: raise ValueError("no picture") from None""",
}


def begin(body, place, code=COMMAND, **options):
    """A process that runs some Python, once it has said that it is ready."""
    text = textwrap.dedent(body)
    script = code.format(body=textwrap.indent(text, "    ").strip())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAXCAM_CACHE": "", "PYTHONUNBUFFERED": "1"}
    # What is ignored is inherited, as under nohup.
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def ended_soon(process):
    """What a process said, which had been sent a signal, and ended in time."""
    try:
        out, err = process.communicate(timeout=SOON)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Said(process.returncode, out, err)


def stopped(process, number=signal.SIGINT):
    """The line of a process that was sent a signal."""
    process.send_signal(number)
    return refused(ended_soon(process), code=130)


@pytest.mark.parametrize("kind", BUSY)
def test_ctrl_c_is_never_lost(kind, tmp_path):
    assert stopped(begin(BUSY[kind], tmp_path)) == "stopped; the same command begins anew"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_other_ways_to_stop_are_the_same(name, tmp_path):
    assert stopped(begin("ready(); compute()", tmp_path), getattr(signal, name)).startswith("stopped; ")


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_who_ignores_a_signal_goes_on(name, tmp_path):
    code = f"import signal; signal.signal(signal.{name}, signal.SIG_IGN)\n" + COMMAND
    process = begin("ready(); time.sleep(1)", tmp_path, code)
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=60) == ("done\n", "")
    assert process.returncode == 0


def test_a_signal_during_imports_needs_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("print('ready', flush=True)\nimport time\ntime.sleep(100)\n")
    code = "import sys; sys.path.insert(0, '')\nfrom jaxcam.cli import main\nmain()"
    assert stopped(begin("", tmp_path, code)) == "stopped; the same command begins anew"


def test_after_the_end_of_the_work_its_exit_code_holds(tmp_path):
    body = "import atexit; atexit.register(lambda: (ready(), time.sleep(100)))"
    process = begin(body, tmp_path, COMMAND.replace('print("done", flush=True)', "pass"))
    process.send_signal(signal.SIGINT)
    assert ended_soon(process) == Said(0, "", "")


def test_a_signal_while_the_interpreter_ends_changes_no_exit_code(tmp_path):
    # A module's global is finalized after Python has stopped its threads and restored the default handlers.
    late = """
class Late:
    def __init__(self): self.write, self.sleep = os.write, time.sleep
    def __del__(self): self.write(1, b"ready\\n"); self.sleep(0.5)
sys.late = Late()
"""
    code = COMMAND.replace("sys.argv =", late + "\nsys.argv =").replace('print("done", flush=True)', "pass")
    process = begin("pass", tmp_path, code)
    process.send_signal(signal.SIGINT)
    assert ended_soon(process) == Said(0, "", "")


def test_a_second_signal_does_not_wait(tmp_path):
    # The other thread's turn comes when the computation has begun, and not before.
    body = """
        from jaxcam.cli import watchdog
        watchdog.PATIENCE = 100
        begun = threading.Lock(); begun.acquire()
        threading.Thread(target=lambda: (begun.acquire(), ready()), daemon=True).start()
        sys.setswitchinterval(1000)
        begun.release(); compute()"""
    process = begin(body, tmp_path)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    assert stopped(process) == "stopped; the same command begins anew"


def test_a_third_signal_does_not_wait_for_the_cleaning_up(tmp_path):
    body = """
        from jaxcam.interrupts import on_stop
        def clean_up():
            (Path("cleaning")).touch(); time.sleep(100)
        with on_stop(clean_up):
            ready(); compute()"""
    process = begin(body, tmp_path)
    process.send_signal(signal.SIGINT)
    while not (tmp_path / "cleaning").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert ended_soon(process) == Said(130, "", "")


def test_cleaning_up_that_fails_is_said_and_the_rest_is_done(tmp_path):
    body = """
        from jaxcam.interrupts import on_stop
        def fails():
            raise PermissionError(13, "Permission denied", "b")
        with on_stop(Path("a").unlink), on_stop(fails):
            Path("a").touch(); ready(); compute()"""
    line = stopped(begin(body, tmp_path))
    assert line == "stopped, but not everything was cleaned up ([Errno 13] Permission denied: 'b')"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_being_written_leaves_nothing(tmp_path):
    body = """
        from jaxcam.files import write_atomically
        write_atomically("whole", lambda file: file.write(b"whole"))
        def write(file):
            file.write(b"half"); file.flush(); ready(); compute()
        write_atomically("half", write)"""
    process = begin(body, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    stopped(process)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_stopped_thread_begins_no_new_file(tmp_path):
    """The main thread writes file after file: it is held between two, and its directory stays removed."""
    body = """
        from jaxcam.cli.run_directory import RunDirectory
        from jaxcam.files import write_atomically
        with RunDirectory("explain", Path("run"), {}) as run:
            for number in range(10**6):
                write_atomically("run/maps.npz", lambda file: file.write(b"0"))
                if number == 3: ready()"""
    line = stopped(begin(body, tmp_path))
    assert line == "stopped; nothing is left in run, and the same command begins anew"
    assert list(tmp_path.iterdir()) == []


RUN = """
    from jaxcam.cli.run_directory import RunDirectory
    from jaxcam.files import write_atomically
    with RunDirectory("{command}", Path("deep/run"), {{"a": 1}}, overwrite={overwrite}) as run:
        write_atomically("deep/run/{name}", lambda file: file.write(b"0"))
        {more}
        ready(); compute()"""


@pytest.mark.parametrize(
    ("command", "name", "overwrite", "more", "said", "left"),
    [
        ("explain", "maps.npz", False, "", "nothing is left in deep/run, and the same command begins anew", None),
        (
            "train",
            "state.safetensors",
            False,
            "",
            "what is done is kept in deep/run, and the same command goes on from there",
            {"run.json", "state.safetensors"},
        ),
        (
            "landscape",
            "points.npz",
            True,
            "",
            "what is done is kept in deep/run, and the same command without --overwrite goes on from there",
            {"run.json", "points.npz"},
        ),
        (
            "prune",
            "pruning.csv",
            False,
            "run.finish(results={})",
            "deep/run holds a finished run",
            {"manifest.json", "pruning.csv"},
        ),
    ],
)
def test_what_a_stopped_run_keeps_and_how_to_go_on(command, name, overwrite, more, said, left, tmp_path):
    body = RUN.format(command=command, name=name, overwrite=overwrite, more=more)
    assert stopped(begin(body, tmp_path)) == f"stopped; {said}"
    if left is None:
        assert list(tmp_path.iterdir()) == []
        return
    assert {path.name for path in (tmp_path / "deep/run").iterdir()} == left
    if "manifest.json" not in left:  # another process may enter it at once
        assert json.loads((tmp_path / "deep/run/run.json").read_text()) == {
            "command": command,
            "arguments": {"a": 1},
            "paths": {},
        }
        process = begin(RUN.format(command=command, name="more", overwrite=False, more=""), tmp_path)
        assert (tmp_path / "deep/run" / name).exists()
        stopped(process)


def test_the_innermost_says_what_is_kept_and_all_clean_up(tmp_path):
    body = """
        from jaxcam.interrupts import on_stop
        def remove(name, line):
            return lambda: (Path(name).unlink(), line)[1]
        for name in "abc": Path(name).touch()
        with on_stop(remove("a", "outer")), on_stop(remove("b", "inner")), on_stop(remove("c", None)):
            ready(); compute()"""
    assert stopped(begin(body, tmp_path)) == "inner"
    assert list(tmp_path.iterdir()) == []


def test_in_a_terminal_the_line_stands_alone_and_the_cursor_is_there(tmp_path):
    """Ctrl-C as a terminal sends it, to a command that draws a bar."""
    body = """
        from rich.console import Console
        from rich.progress import Progress
        with Progress(console=Console(stderr=True)) as bar:
            bar.add_task("computing")
            time.sleep(0.3); ready(); compute()"""
    script = COMMAND.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAXCAM_CACHE": "", "TERM": "xterm", "COLUMNS": "80"}
    signal_before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(tmp_path)
            os.execve(sys.executable, [sys.executable, "-c", script], environment)
    finally:
        signal.signal(signal.SIGINT, signal_before)
    seen = b""
    begun = time.monotonic()
    while b"ready" not in seen:
        assert time.monotonic() - begun < 60, seen
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    sent = time.monotonic()
    seen = b""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:
            break
        if not more:
            break
        seen += more
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert time.monotonic() - sent < SOON
    text = seen.decode()
    assert text.rindex("\x1b[?25h") > text.rfind("\x1b[?25l")
    last = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text).rstrip("\r\n").rsplit("\n", 1)[-1].rsplit("\r", 1)[-1]
    assert last == "jaxcam: stopped; the same command begins anew"


WAITS_FOR_OTHERS = """
    real = subprocess.Popen
    def popen(*args, **options):
        process = real(*args, **options)
        Path("child").write_text(str(process.pid)); ready()
        return process
    subprocess.Popen = popen
    from jaxcam.neurons.hosts import join
    join("127.0.0.1:{port}", 2, 1)"""


def test_a_child_process_ends_when_its_parent_is_killed(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        body = WAITS_FOR_OTHERS.format(port=taken.getsockname()[1])
        process = begin(body, tmp_path, "import subprocess\n" + COMMAND, start_new_session=True)
        child = psutil.Process(int((tmp_path / "child").read_text()))
        process.kill()
        process.communicate()
        # It imports JAX first, for a second or two.
        gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_child_process_ends_too_and_is_not_taken_for_the_reason(whole_group, tmp_path):
    """A terminal sends Ctrl-C to parent and child, a script to the parent only."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        body = WAITS_FOR_OTHERS.format(port=taken.getsockname()[1])
        process = begin(body, tmp_path, "import subprocess\n" + COMMAND, start_new_session=True)
        child = psutil.Process(int((tmp_path / "child").read_text()))
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        assert refused(ended_soon(process), code=130) == "stopped; the same command begins anew"
    gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_a_stopped_report_says_how_to_go_on(monkeypatch, tmp_path):
    def stopped_in_the_middle(*args, **options):
        return interrupts._clean_ups[-1]()

    monkeypatch.setattr("jaxcam.cli.atlas.atlas", stopped_in_the_middle)
    for out, same in ((None, "jaxcam report runs"), (tmp_path, f"jaxcam report runs --out {tmp_path}")):
        line = atlas.write(Path("runs"), out, units="auto", images=None, quiet=True)
        assert line == f"stopped; the maps that are drawn are kept, and {same} goes on from there"


@pytest.mark.slow
def test_real_commands_stop_wherever_they_are_and_come_to_the_same_end(tmp_path):
    """Some moments of each; `interrupt_commands.py` does the same for as many as it is asked for."""
    rows = list(interrupt_commands.interrupts(tmp_path, 3, 0, list(interrupt_commands.COMMANDS)))
    assert len(rows) == 12
    assert all(map(interrupt_commands.is_good, rows)), interrupt_commands.summary(rows)
