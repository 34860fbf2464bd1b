"""Scenarios as text: what comes out is put below, what is wrong is named by file and line."""

from __future__ import annotations

import pytest

from dynamo.sim.line import ScriptError
from dynamo.sim.scene import COMMANDS
from dynamo.sim.script import run_script

CLUSTER = "cluster nodes=3 n=3\n----\nok\n"


def came_out(*blocks: str) -> list[str]:
    """What a scenario of these blocks gives below the dashes of the last."""
    text = "\n".join((CLUSTER, *(f"{block}\n----\n" for block in blocks)))
    return run_script(text, name="x.txt").split("----\n")[-1].splitlines()


def error(text: str) -> str:
    """What is wrong with a scenario."""
    with pytest.raises(ScriptError) as caught:
        run_script(text, name="x.txt")
    return str(caught.value)


def test_what_really_came_out_takes_the_place_of_what_was_expected() -> None:
    text = f"# About it.\n\n{CLUSTER}\n# Why.\nwrite a k v1\nread b k\n----\nread b: v2\nand more\n"
    real = run_script(text, name="x.txt")
    assert real == text.replace("read b: v2\nand more\n", "write a: ok\nread b: v1\n")
    assert run_script(real, name="x.txt") == real


def test_comments_and_empty_lines_are_kept() -> None:
    text = f"# One.\n#\n\n\n# Two.\n{CLUSTER}\n\n# Three.\nwait 1\n# Four.\nheal\n----\nok\n\n# Five.\n"
    assert run_script(text, name="x.txt") == text


def test_a_single_command_says_only_what_came_of_it() -> None:
    assert came_out("write a k v1") == ["ok"]
    assert came_out("write a k v1", "read b k") == ["v1"]
    assert came_out("delete a k", "read a k") == ["absent"]


def test_every_result_of_several_commands_says_which_it_is_of() -> None:
    assert came_out("write a k v1 w=3\nwait 1\nread b k\nshow k") == [
        "write a: ok",
        "read b: v1",
        "show k:",
        "  a: v1",
        "  b: v1",
        "  c: v1",
    ]


def test_an_error_says_whether_it_may_have_happened_and_who_did_not_answer() -> None:
    assert came_out("crash b\ncrash c\nwait 1\nwrite a k v1", "read a k") == [
        "unavailable, outcome none, 1 of 2",
        "  b: down",
        "  c: down",
    ]
    assert came_out("cut a | b c", "write a k v1 timeout=100") == [
        "write_uncertain, outcome unknown, 1 of 2",
        "  b: no answer in time",
        "  c: no answer in time",
    ]


def test_a_loop_tells_how_often_each_command_gave_what() -> None:
    assert came_out("repeat 3\nread a k\nwrite a k v{i}\nend") == [
        "read a k: absent (once)",
        "read a k: v{i-1} (once)",
        "read a k: v1 v{i-1} (once)",
        "write a k: ok (3 times)",
    ]


def test_a_cluster_begins_with_nothing_of_the_last() -> None:
    scene = f"{CLUSTER}\nwrite a k v1\nwait 1\nshow k dots\n----\n"
    first, second = run_script(f"{scene}\n{scene}", name="x.txt").split("cluster ")[1:]
    assert first.strip() == second.strip()
    assert "a: v1@a1.1:1" in first


def test_what_is_not_on_disk_yet_is_told_apart() -> None:
    shown = came_out("slow-sync a 100\nwrite b k v1", "show k")
    assert shown[0] == "a: v1 (synced: nothing)"


def test_a_fault_can_wait_for_a_point_or_for_a_time() -> None:
    assert came_out("when a minted crash a kept=0\nwrite a k v1", "show k") == [
        "a: nothing",
        "b: nothing",
        "c: nothing",
    ]
    assert came_out("after 0.5 crash a", "wait 1\nread a k") == [
        "read a: node_gone, outcome unknown"
    ]


def test_a_state_shows_nodes_cuts_losses_and_keys() -> None:
    commands = "write a k v1 w=3\ncrash c\npause b\ncut a -> b\nlose store b a count=2"
    assert came_out(commands, "state") == [
        "a: up",
        "b: paused",
        "c: down",
        "cut: a>b",
        "lost: store b>a 2",
        "k",
        "  a: v1",
        "  b: v1",
        "  c: v1",
    ]


def test_a_node_that_ends_by_itself_is_told() -> None:
    commands = "crash a\nafter 0 image b as other\nwait 1\nrestore a other\nrestart a"
    (line,) = came_out(commands)
    assert line.startswith("* node a ended by itself: ")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("wreck a", "unknown command wreck; there are cluster, repeat, write,"),
        ("write a k", "write: it is written write NODE KEY VALUE [context=]"),
        ("write a k v1 v2", "write: it is written"),
        ("write a k v1 q=2", "write: unknown argument q=2; write NODE"),
        ("write a k v1 w=two", "write: w=two is no number"),
        ("write z k v1", "write: there is no node z"),
        ("write a k v1 context=mine", "write: nothing was remembered as mine"),
        ("read a k as", "read: it is written"),
        ("read a k repair=soon", "read: repair=async or repair=blocking"),
        ("restart a", "restart: node a is up"),
        ("cut a b", "cut: it is written NODE... | NODE..."),
        ("lose stores a b", "lose: no kind of message stores; there are mint,"),
        ("when a somewhere crash a", "when: no point somewhere; there are minted,"),
        ("when a minted settle", "when: settle takes time"),
        ("when a minted crash a", "crash: node a was never at minted"),
        ("wait long", "wait: long is no number"),
        ("restore a night", "restore: there is no image night"),
        ("rot a k", "rot: a has nothing of k"),
        ("end", "an end without a repeat"),
        ("repeat many", "it is written repeat TIMES"),
        ("repeat 2\nread a k", "a repeat without an end"),
    ],
)
def test_what_cannot_be_done_is_named_by_file_and_line(line: str, why: str) -> None:
    assert error(f"{CLUSTER}\n{line}\n----\n").startswith(f"x.txt:5: {why}")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "x.txt:1: no command"),
        ("# Words.\n", "x.txt:1: no command"),
        ("write a k v1\n----\n", "x.txt:1: the first command must be cluster"),
        (f"{CLUSTER}\nwait 1\n", "x.txt:5: no ---- after the commands"),
        (f"{CLUSTER}\nwait 1\n\nwait 2\n----\n", "x.txt:6: no ---- after the commands"),
        (f"{CLUSTER}\n----\n", "x.txt:5: ---- without a command before it"),
        ("cluster nodes=99\n----\n", "x.txt:1: cluster: 1 to 26 nodes"),
        ("cluster size=3\n----\n", "x.txt:1: cluster: unknown argument size=3"),
    ],
)
def test_a_text_that_is_no_scenario_is_refused(text: str, where: str) -> None:
    assert error(text).startswith(where)


def test_a_bad_line_is_found_before_anything_runs() -> None:
    text = f"{CLUSTER}\nwrite z k v1\n----\n\nwreck a\n----\n"
    assert error(text).startswith("x.txt:8: unknown command wreck")


def test_every_command_says_what_it_does() -> None:
    assert [verb for verb, command in COMMANDS.items() if not command.run.__doc__] == []
