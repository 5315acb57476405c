"""kafka-consumer-groups, kafka-groups, and those for share and streams groups."""

import json
from contextlib import contextmanager

from suite import (
    CALL_SECONDS,
    Expected,
    Wrong,
    again,
    case,
    equal,
    expect,
    expect_not,
    file_with,
    running,
    tool,
    topic_with,
    words,
)

# 2020-01-01, and a day in a far future, as kafka-consumer-groups reads them.
LONG_AGO = "2020-01-01T00:00:00.000"
FAR_AWAY = "2100-01-01T00:00:00.000"


@case("kafka-consumer-groups with members: --describe, --members, --state")
def describe_members():
    topic = topic_with("tools-groups-alive", partitions=3, records=10)
    group = "tools-groups-members"
    with member_of(group, topic):
        rows = words(groups("--describe", "--group", group), group)
        equal(sorted(row[2] for row in rows), ["0", "1", "2"])
        for row in rows:
            expect(row[7], "/127.0.0.1")
        [row] = words(groups("--describe", "--group", group, "--members", "--verbose"), group)
        equal(row[4], "3")
        expect(" ".join(row), f"{topic}:0,1,2")
        [row] = words(groups("--describe", "--group", group, "--state"), group)
        equal(row[-3:], ["range", "Stable", "1"])
        expect(groups("--list", "--state", "Stable"), group)
        refusals_while_alive(group, topic)
    [row] = words(groups("--describe", "--group", group, "--state"), group)
    equal(row[-2:], ["Empty", "0"])


def refusals_while_alive(group, topic):
    reset = groups("--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute", fails=True)
    expect(reset, "only be reset if the group", "is inactive, but the current state is Stable")
    expect(groups("--delete", "--group", group, fails=True), "GroupNotEmptyException")
    deleted = groups("--delete-offsets", "--group", group, "--topic", topic, fails=True)
    expect(deleted, "GroupSubscribedToTopicException")


@case("kafka-consumer-groups --list, with --state and --type")
def list_groups():
    topic = topic_with("tools-groups-listed", records=1)
    commit("tools-groups-in-list", topic, 1)
    expect(groups("--list"), "tools-groups-in-list\n")
    equal(words(groups("--list", "--state"), "tools-groups-in-list"), [["tools-groups-in-list", "Empty"]])
    equal(
        words(groups("--list", "--state", "Empty", "--type", "classic"), "tools-groups-in-list"),
        [["tools-groups-in-list", "Classic", "Empty"]],
    )
    expect_not(groups("--list", "--state", "Dead"), "tools-groups-in-list")
    expect_not(groups("--list", "--type", "consumer"), "tools-groups-in-list")


@case("kafka-consumer-groups --describe --offsets, --all-groups")
def describe_offsets():
    topic = topic_with("tools-groups-lagging", partitions=2, records=10)
    group = "tools-groups-lag"
    commit(group, f"{topic}:0", 4)
    wanted = [group, topic, "0", "4", "10", "6", "-", "-", "-"]

    def check(*more):
        printed = groups("--describe", *more)
        expect(printed, f"Consumer group '{group}' has no active members.")
        equal(words(printed, group), [wanted])

    check("--group", group)
    check("--group", group, "--offsets")
    again(5, lambda: check("--all-groups"))


@case("kafka-consumer-groups --describe of one that does not exist")
def describe_unknown():
    expect(
        groups("--describe", "--group", "tools-groups-unknown", fails=True), "Group tools-groups-unknown not found"
    )


@case("kafka-consumer-groups --reset-offsets --dry-run")
def reset_dry():
    topic = topic_with("tools-groups-dry", records=10)
    commit("tools-groups-dry", topic, 4)
    printed = groups(
        "--reset-offsets", "--group", "tools-groups-dry", "--topic", topic, "--to-earliest", "--dry-run"
    )
    equal(words(printed, "tools-groups-dry"), [["tools-groups-dry", topic, "0", "0"]])
    equal(offset_of("tools-groups-dry"), "4")


@case("kafka-consumer-groups --reset-offsets: to earliest, latest, an offset, by a shift")
def reset_to_positions():
    topic = topic_with("tools-groups-reset", records=10)
    steps = [("--to-offset", 7, 7), ("--shift-by", -3, 4), ("--shift-by", 100, 10), ("--to-offset", 99, 10)]
    for how, value, wanted in steps:
        check_reset("tools-groups-reset", topic, [how, value], wanted)
    for how, wanted in (("--to-earliest", 0), ("--to-latest", 10), ("--to-current", 10)):
        check_reset("tools-groups-reset", topic, [how], wanted)


@case("kafka-consumer-groups --reset-offsets: to a time, by a duration")
def reset_to_time():
    topic = topic_with("tools-groups-times", records=10)
    for how in (["--to-datetime", LONG_AGO], ["--by-duration", "P1D"]):
        check_reset("tools-groups-times", topic, how, 0)
    check_reset("tools-groups-times", topic, ["--to-datetime", FAR_AWAY], 10)


@case("kafka-consumer-groups --reset-offsets: export, from a file, all topics")
def reset_from_file():
    topics = [topic_with(f"tools-groups-file-{letter}", records=10) for letter in "ab"]
    group = "tools-groups-file"
    path = file_with("offsets.csv", "".join(f"{topic},0,{3 + at}\n" for at, topic in enumerate(topics)))
    groups("--reset-offsets", "--group", group, "--from-file", path, "--execute")
    exported = groups("--reset-offsets", "--group", group, "--all-topics", "--to-current", "--export", "--dry-run")
    equal(sorted(exported.split()), [f"{topic},0,{3 + at}" for at, topic in enumerate(topics)])
    groups("--reset-offsets", "--group", group, "--all-topics", "--to-latest", "--execute")
    equal([row[3] for row in words(groups("--describe", "--group", group), group)], ["10", "10"])


@case("kafka-consumer-groups --delete-offsets")
def delete_offsets():
    topic = topic_with("tools-groups-forgotten", partitions=2, records=10)
    group = "tools-groups-forget"
    commit(group, topic, 5)
    printed = groups("--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    expect(printed, f"Request succeeded for deleting offsets from group {group}.")
    equal(words(printed, topic), [[topic, "0", "Successful"]])
    equal([row[2] for row in words(groups("--describe", "--group", group), group)], ["1"])


@case("kafka-consumer-groups --delete")
def delete():
    topic = topic_with("tools-groups-gone", records=1)
    group = "tools-groups-deleted"
    commit(group, topic, 1)
    printed = groups("--delete", "--group", group)
    expect(printed, f"Deletion of requested consumer groups ('{group}') was successful.")
    expect_not(groups("--list"), group)
    expect(groups("--delete", "--group", group, fails=True), "GroupIdNotFoundException")


@case("kafka-groups --list")
def list_all_kinds():
    topic = topic_with("tools-groups-kinds", records=1)
    commit("tools-groups-kind", topic, 1)
    for more in ([], ["--consumer"], ["--group-type", "classic"]):
        rows = words(tool("kafka-groups", "--list", *more), "tools-groups-kind")
        equal([row[:2] for row in rows], [["tools-groups-kind", "Classic"]])


@case(
    "kafka-share-groups --describe",
    Expected("share groups are not served", "does not support SHARE_GROUP_DESCRIBE"),
)
def share_groups():
    describe_other("kafka-share-groups")


@case(
    "kafka-streams-groups --describe",
    Expected("the streams protocol (KIP-1071) is not served", "does not support STREAMS_GROUP_DESCRIBE"),
)
def streams_groups():
    describe_other("kafka-streams-groups")


def describe_other(name):
    """The case passes when the broker knows such groups: it says that there is no such one."""
    printed = tool(name, "--describe", "--group", "tools-groups-other", fails=True)
    expect(printed, "Group tools-groups-other not found")


def groups(*arguments, fails=False):
    return tool("kafka-consumer-groups", *arguments, fails=fails)


def commit(group, topic, offset):
    """Has the group begin at that offset: in all partitions, or in one named `topic:partition`."""
    groups("--reset-offsets", "--group", group, "--topic", topic, "--to-offset", offset, "--execute")


def check_reset(group, topic, how, wanted):
    printed = groups("--reset-offsets", "--group", group, "--topic", topic, *how, "--execute")
    equal(words(printed, group), [[group, topic, "0", str(wanted)]])
    equal(offset_of(group), str(wanted))


def offset_of(group):
    """What it has committed for its only partition."""
    [row] = words(groups("--describe", "--group", group), group)
    return row[3]


@contextmanager
def member_of(group, topic):
    """A live member, once it has partitions; it leaves the group in the end."""
    with running("kafka-verifiable-consumer", "--group-id", group, "--topic", topic) as process:
        until_said(process, "partitions_assigned")
        yield
        process.terminate()
        until_said(process, "shutdown_complete")
        process.wait(CALL_SECONDS)


def until_said(process, event):
    """Reads the events of a verifiable client until one has that name."""
    for line in process.stdout:
        if line.startswith("{") and json.loads(line)["name"] == event:
            return
    raise Wrong(f"the member ended before `{event}`")
