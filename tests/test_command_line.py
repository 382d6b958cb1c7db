"""What holds for every command: documented, explained by --help, one line for bad input, honest about a full disk."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cdka.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
FULL = Path("/dev/full")
RUN = ["run", "--model", "digits-vit", "--task", "digits-flip"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example_that_it_understands(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: cdka {name}" in told
    assert re.search(rf"example:\n  cdka {name}\b", told)


def test_the_overview_and_the_readme_name_every_command(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"  {name} " in overview
        assert re.search(rf"\bcdka {name}\b", readme), f"README does not mention cdka {name}"


def test_the_command_lines_of_the_readme_are_understood(monkeypatch):
    block = re.search(r"## The command line\n+```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    lines = block[1].replace("\\\n", " ").splitlines()
    assert len(lines) >= len(COMMANDS) - 2  # data and studio have their own places
    for line in lines:
        program, name, *rest = shlex.split(line, comments=True)
        seen = []
        monkeypatch.setattr(f"cdka.cli.{name.replace('-', '_')}.run", seen.append)
        assert program == "cdka"
        assert main([name, *rest]) == 0, line
        assert seen


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["sovle"], "unknown command 'sovle'. Did you mean 'solve'?"),
        (["run"], "the following arguments are required: --model"),
        (["models", "--jsno"], "unrecognized arguments: --jsno"),
        (["models", "digit-vit"], "unknown model 'digit-vit'. Did you mean 'digits-vit'?"),
        (["models", "--family", "zebra"], "unknown family 'zebra'"),
        (["solve", "digits-vit", "--budget", "0"], "a budget must be positive and finite: got 0."),
        (["solve", "digits-vit", "--budget", "-1e6"], "a budget must be positive and finite: got -1e+06."),
        (["solve", "digits-vit", "--budget", "-5%"], "a budget must be positive and finite: got -5%."),
        (["solve", "digits-vit", "--budget", "600000"], "at most full fine-tuning of the target modules, 524,288"),
        (["solve", "digits-vit", "--budget", "7167"], "the smallest option, 7,168 parameters with (1,1,1): got 7,167"),
    ],
)
def test_bad_input_is_one_line_with_the_rule_and_exit_code_2(words, answer, capsys):
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("cdka: ")
    assert told.err.count("\n") == 1
    assert answer in told.err


def test_the_smallest_budget_has_exactly_one_option(capsys):
    assert main(["solve", "digits-vit", "--budget", "7168", "--json"]) == 0
    assert '"num_params": 7168' in capsys.readouterr().out


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["models"], ["tasks", "--json"]])
def test_a_full_disk_below_stdout_is_one_line(words):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cdka", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("cdka: there must be room for what is written: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-m", "cdka", "models", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        writer.stdout.readline()
        writer.stdout.close()
        assert writer.stderr.read() == ""
        assert writer.wait() == 0


@pytest.mark.parametrize("words", [["runs"], ["studio", "--no-browser"], RUN])
def test_a_home_that_cannot_be_made_is_one_line(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CDKA_HOME", str(tmp_path / "file" / "home"))
    assert main(words) == 2
    told = capsys.readouterr()
    assert "the home folder must be writable: got" in told.err
    assert told.err.count("\n") == 1
